//! The control plane's program; everything is in the library.

fn main() -> std::process::ExitCode {
    causeway_control_plane::main_from(std::env::args_os())
}
