//! The exams that others wrote, h2spec and gRPC's interop programs, as `tests/exams/fetch` builds them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of `h2spec`, `grpc-interop-client` or `grpc-interop-server`.
///
/// # Panics
/// When `tests/exams/fetch` cannot be run.
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("exams/fetch");
        PathBuf::from(crate::process::run(Command::new(script).arg("--where")).ok().trim())
    });
    directory.join(name)
}
