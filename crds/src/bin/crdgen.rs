//! Writes the CustomResourceDefinitions: to the directory given, else all of them to standard output. With `--fields` the
//! table of every field instead.

use causeway_crds::manifest::manifests;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let mut out = std::io::stdout().lock();
    if directory.as_deref().is_some_and(|d| d == "--fields") {
        write!(out, "{}", causeway_crds::fields::table())?;
        return Ok(());
    }
    for manifest in manifests() {
        let text = manifest.to_yaml()?;
        match &directory {
            Some(directory) => {
                std::fs::create_dir_all(directory)?;
                std::fs::write(directory.join(format!("{}.yaml", manifest.name)), text)?;
            }
            None => write!(out, "---\n{text}")?,
        }
    }
    Ok(())
}
