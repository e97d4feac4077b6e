//! Runs nft. Its scripts come from `causeway_mesh::redirect`.

use std::io::Write;
use std::process::{Command, Stdio};

use causeway_mesh::redirect::{self as rules, Settings};

/// Why the rules are not as asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("nft cannot be started ({0}); install the package `nftables` and run this as root (capability NET_ADMIN)")]
    NotStarted(std::io::Error),
    #[error("nft or the kernel refused the rules, nothing was changed; root (capability NET_ADMIN) is needed:\n{0}")]
    Refused(String),
    #[error("the table `{table}` is not in the kernel: nothing is redirected; run this with --apply", table = rules::TABLE)]
    Absent,
    #[error("the table `{table}` in the kernel differs from these flags; run this with --apply", table = rules::TABLE)]
    Differs,
}

/// Runs a script as one transaction.
pub(super) fn load(script: &str) -> Result<(), Error> {
    run(&["-f", "-"], script).map(drop)
}

/// Whether the kernel has exactly the rules that `settings` ask for.
///
/// nft prints rules in another form than it reads them, and each version in its own. So the wanted rules are loaded
/// into a second, dormant table for a moment, and nft's listings of both are compared.
pub(super) fn verify(settings: &Settings) -> Result<(), Error> {
    let actual = match list(rules::TABLE) {
        Err(Error::Refused(reason)) if reason.contains("No such file or directory") => return Err(Error::Absent),
        other => other?,
    };
    // Named by process, so that two checks at once do not meet.
    let table = format!("inet causeway_check_{}", std::process::id());
    let (wanted, remove) = rules::shadow(settings, &table);
    load(&wanted)?;
    let wanted = list(&table);
    let removed = load(&remove);
    let wanted = wanted?;
    removed?;
    if content(&actual) == content(&wanted) { Ok(()) } else { Err(Error::Differs) }
}

/// The lines behind the table's name, without the flag that keeps the second one out of force.
fn content(listing: &str) -> Vec<&str> {
    listing.lines().skip(1).filter(|line| !matches!(line.trim(), "" | "flags dormant")).collect()
}

fn list(table: &str) -> Result<String, Error> {
    let mut arguments = vec!["--stateless", "-nn", "list", "table"];
    arguments.extend(table.split(' '));
    run(&arguments, "")
}

fn run(arguments: &[&str], input: &str) -> Result<String, Error> {
    let mut child = Command::new("nft")
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::NotStarted)?;
    if let Some(mut stdin) = child.stdin.take() {
        // If nft ends without reading, its status and message say why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(Error::NotStarted)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::content;

    #[test]
    fn listings_compare_without_name_and_dormancy() {
        let actual = "table inet causeway {\n\tchain a {\n\t}\n}\n";
        let wanted = "table inet causeway_check_7 {\n\tflags dormant\n\n\tchain a {\n\t}\n}\n";
        assert_eq!(content(actual), content(wanted));
        assert_ne!(content(actual), content("table inet causeway {\n\tchain b {\n\t}\n}\n"));
    }
}
