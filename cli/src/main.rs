//! The `causeway` binary; everything is in the library so that tests can call it.

use std::process::ExitCode;

fn main() -> ExitCode {
    causeway::main_from(std::env::args_os().collect())
}
