//! `fink init`: writes a configuration file in which every key is explained.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::config::USUAL_FILE;
use crate::config::keys::{SECTIONS, Shown, commented_file};

const EXAMPLES: &str = "\
Examples:
  fink init                         write ./fink.toml, which `fink start` reads by itself
  fink init /etc/fink/ztf.toml      write another file; use it with -c /etc/fink/ztf.toml
  fink init --print                 print it";

/// Write a configuration file in which every key is explained
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    /// The file to write
    #[arg(default_value = USUAL_FILE)]
    file: PathBuf,
    /// Print it instead
    #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "toml")]
    print: Option<Form>,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// As the file.
    Toml,
    /// As docs/configuration.md.
    Markdown,
}

/// Runs it.
///
/// # Errors
/// When the file can't be written.
pub fn run(args: &InitArgs) -> anyhow::Result<ExitCode> {
    match args.print {
        Some(Form::Toml) => print!("{}", commented_file()),
        Some(Form::Markdown) => print!("{}", markdown()),
        None => {
            let file = args.file.display();
            let mut open = std::fs::OpenOptions::new();
            open.write(true).create(true).truncate(true);
            if !args.force {
                open.create_new(true);
            }
            let mut written = open.open(&args.file).map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => anyhow::anyhow!("{file} is there already: name another file, or give --force"),
                _ => anyhow::anyhow!("{file}: {error}"),
            })?;
            written.write_all(commented_file().as_bytes()).with_context(|| file.to_string())?;
            println!("wrote {file}: set brokers and topics in it, then `fink start archive`");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `docs/configuration.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         `fink init` writes a commented `fink.toml`; `fink start archive --check-config` checks it. A value comes from the flag, else from the\n\
         file, else from the default below. `-c FILE` names the file; without it `./fink.toml` is read where it is there. Whatever is wrong in it\n\
         (an unknown key, a value of the wrong type, a path that can't be) is an error that names the file, the line and the key.\n\n\
         Secrets never stand in the file or in a flag: a password is named by the environment variable or the file that holds it.\n\n\
         This page is generated from the keys' own documentation: `fink init --print=markdown`.\n",
    );
    for section in SECTIONS {
        text += &format!("\n## [{}]\n", section.name);
        text += &paragraph(section.about);
        text += "\n| key | default | what it is |\n|---|---|---|\n";
        for key in section.keys {
            let shown = match key.shown {
                Shown::Default(value) => format!("`{value}`"),
                Shown::Example(value) => format!("none; e.g. `{value}`"),
            };
            text += &format!("| `{}` | {shown} | {} |\n", key.name, paragraph(key.about).trim_end().replace('|', "\\|"));
        }
    }
    text
}

fn paragraph(lines: &[&str]) -> String {
    let mut text = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_the_keys_say() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let is = std::fs::read_to_string(page).unwrap();
        assert_eq!(is, markdown(), "write it anew: cargo run -- init --print=markdown > docs/configuration.md");
    }
}
