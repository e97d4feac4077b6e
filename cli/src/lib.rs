//! What a person types: parses the command line and hands each command to its module.

pub mod address;
pub mod admin;
pub mod certs;
pub mod check;
mod clock;
pub mod cluster;
mod conditions;
pub mod demo;
mod hosted;
pub mod inject;
pub mod install;
pub mod proxy;
pub mod replicas;
pub mod status;
pub mod terminal;
pub mod uninstall;
pub mod validate;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::terminal::Style;

/// A usage error, as clap has it.
pub const USAGE: u8 = 2;

/// The subcommands by what a person wants; a test holds it to those that exist.
const HELP: &str = "\
{about}

Usage: causeway [OPTIONS] <COMMAND>

Try it, without a cluster:
  demo       the whole mesh on this machine, about 30 seconds
  validate   every problem in files and folders of YAML, with the control plane's own code

In a cluster:
  check      what is wrong, before and after the installation, each with its cure
  install    what would be applied, or with --apply install or upgrade it
  inject     put the proxy into Pods, Deployments, ... of a file, as the webhook does
  status     replicas, proxies and what they have in force, routes with their weights
  proxy      what the proxy of one pod has in force: identity, policies, destinations
  uninstall  what would be removed, or with --apply remove it

On this machine:
  certs      the certificate and roots that a proxy here holds

Options:
{options}{after-help}";

const EXAMPLES: &str = "\
Examples:
  causeway demo --keep               left running, to try things by hand
  causeway validate . --strict       for a pipeline: warnings fail too
  causeway install --apply --wait    into the cluster of the current context
  causeway status -n dev             proxies and routes of one namespace
  causeway proxy dev/web-0           what that pod's proxy does with each call

`causeway COMMAND --help` explains each, with examples and exit codes.
Exit codes: 0 all is well; 1 something is wrong, and the output says what; 2 the command line is wrong.
Colour is used only on a terminal; NO_COLOR or --no-color turns it off there too.";

#[derive(Debug, Parser)]
#[command(
    name = "causeway",
    version,
    about = "Causeway, a minimal service mesh: try it, install it, look at what it does.",
    help_template = HELP,
    after_help = EXAMPLES,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Arguments {
    /// Never colour the output.
    #[arg(long, global = true)]
    no_color: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole mesh on this machine and show what it does (no root, no cluster).
    Demo(demo::Settings),
    /// Install Causeway into a cluster, or print what that would apply.
    Install(Box<install::Settings>),
    /// Put the proxy into the pods of YAML files by hand, as the webhook does.
    Inject(inject::Settings),
    /// Show what an installation left in a cluster, or remove it all.
    Uninstall(uninstall::Settings),
    /// Say what is wrong with a cluster, before and after the installation, and what to do about it.
    Check(check::Settings),
    /// Check YAML files and folders offline, with the code that the control plane itself uses.
    Validate(validate::Settings),
    /// Show the certificate and the roots that a proxy holds.
    Certs(certs::Settings),
    /// Show replicas, proxies and what each has acknowledged, routes with their weights, and problems.
    Status(status::Settings),
    /// Show what the proxy of a pod has in force: identity, policies, destinations, endpoints.
    Proxy(proxy::Settings),
}

/// Runs the command line `args` (the program's name first).
pub fn main_from(args: Vec<OsString>) -> ExitCode {
    if let Some(code) = hosted::run(&args) {
        return code;
    }
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing better is left to do when even this cannot be printed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    let style = Style::of_stdout(arguments.no_color);
    let mut out = std::io::stdout();
    let result = match arguments.command {
        Command::Demo(settings) => demo::run(&settings, style, &mut out),
        Command::Install(settings) => install::run(&settings, style, &mut out),
        Command::Inject(settings) => inject::run(&settings, &mut out),
        Command::Uninstall(settings) => uninstall::run(&settings, style, &mut out),
        Command::Check(settings) => check::run(&settings, style, &mut out),
        Command::Validate(settings) => validate::run(&settings, style, &mut out),
        Command::Certs(settings) => certs::run(&settings, style, &mut out),
        Command::Status(settings) => status::run(&settings, style, &mut out),
        Command::Proxy(settings) => proxy::run(&settings, style, &mut out),
    };
    let _ = out.flush();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "causeway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the reader of our output went away (`causeway ... | head`), which is no failure of ours.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_lists_every_command_once() {
        let command = Arguments::command();
        for subcommand in command.get_subcommands() {
            let line = format!("\n  {:9}  ", subcommand.get_name());
            assert_eq!(HELP.matches(&line).count(), 1, "{line}");
        }
        let listed = HELP.lines().filter(|line| line.starts_with("  ")).count();
        assert_eq!(listed, command.get_subcommands().count());
    }

    #[test]
    fn a_wrong_flag_is_a_usage_error() {
        let code = main_from(["causeway", "validate"].map(OsString::from).to_vec());
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(USAGE)));
    }
}
