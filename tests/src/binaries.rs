//! Finds the programs under test. Cargo does not build other crates' binaries for a test, so `tests/run` does first.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The path of `causeway-proxy`, `causeway-control-plane` or `causeway`.
///
/// Looks in `CAUSEWAY_BIN_DIR`, else in the directory that Cargo builds this test into.
///
/// # Panics
/// When it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let directory = directory();
    let path = directory.join(name);
    assert!(
        path.is_file(),
        "{} is not there; build it first: cargo build -p causeway-control-plane -p causeway-proxy -p causeway",
        path.display()
    );
    path
}

/// The proxy, where uid 2102 can run it.
pub fn proxy_for_all() -> PathBuf {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| readable_copy(&binary("causeway-proxy"))).clone()
}

fn directory() -> PathBuf {
    if let Some(given) = std::env::var_os("CAUSEWAY_BIN_DIR") {
        return PathBuf::from(given);
    }
    // target/<profile>/deps/<suite>-<hash> -> target/<profile>
    let test = std::env::current_exe().expect("the test's own path");
    test.parent().and_then(Path::parent).expect("a directory above deps").to_owned()
}

/// The path itself if other users can reach it; else a copy in the temporary directory, made once per build.
fn readable_copy(program: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let open = |p: &Path| p.metadata().is_ok_and(|m| m.permissions().mode() & 0o001 != 0);
    if program.ancestors().all(open) {
        return program.to_owned();
    }
    let meta = program.metadata().expect("program exists");
    let stamp = meta.modified().ok().and_then(|t| t.elapsed().ok()).map_or(0, |age| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| now.saturating_sub(age).as_secs())
    });
    let copy = std::env::temp_dir().join(format!("causeway-proxy-{}-{stamp}", meta.len()));
    if !copy.is_file() {
        let partial = copy.with_extension(std::process::id().to_string());
        std::fs::copy(program, &partial).expect("copy of the proxy");
        std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o755)).expect("mode");
        std::fs::rename(&partial, &copy).expect("rename of the copy");
    }
    copy
}
