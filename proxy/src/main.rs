//! The `causeway-proxy` binary.

fn main() -> std::process::ExitCode {
    causeway_proxy::main_from(std::env::args_os().collect())
}
