//! The hidden subcommands by which `causeway demo` starts real control planes and proxies from its own binary.
//!
//! `run-control-plane` and `run-proxy` pass their arguments on untouched. With `--tied` as the first of them the
//! process ends as soon as its standard input does, so that no child outlives a demo that was killed.

use std::ffi::OsString;
use std::io::Read;
use std::process::ExitCode;

/// Argument that ties a hosted process to its standard input.
pub(crate) const TIED: &str = "--tied";
/// Runs the control plane.
pub(crate) const CONTROL_PLANE: &str = "run-control-plane";
/// Runs a proxy.
pub(crate) const PROXY: &str = "run-proxy";

/// Runs a hosted process to its end, if `args` ask for one.
pub(crate) fn run(args: &[OsString]) -> Option<ExitCode> {
    let (name, main): (_, fn(Vec<OsString>) -> ExitCode) = match args.get(1)?.to_str()? {
        CONTROL_PLANE => ("causeway-control-plane", causeway_control_plane::main_from),
        PROXY => ("causeway-proxy", causeway_proxy::main_from),
        _ => return None,
    };
    let mut rest = args.get(2..).unwrap_or_default();
    if rest.first().is_some_and(|first| first == TIED) {
        rest = rest.get(1..).unwrap_or_default();
        std::thread::spawn(end_with_stdin);
    }
    Some(main(std::iter::once(OsString::from(name)).chain(rest.iter().cloned()).collect()))
}

fn end_with_stdin() {
    let mut byte = [0; 64];
    while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
    std::process::exit(0);
}
