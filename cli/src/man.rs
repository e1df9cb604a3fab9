//! `ol man DIR`: writes the manual pages, generated from the same definitions as `--help`, so that they can't differ.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man as Page;
use serde_json::json;

use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Where to write ol.1, ol-worker.1 and so on; made if missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Man {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let directory = &self.directory;
        fs::create_dir_all(directory).with_context(|| {
            format!("failed to make {}; check that you may", directory.display())
        })?;
        let pages = pages()?;
        for (name, text) in &pages {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| {
                format!("failed to write {}; check that you may", path.display())
            })?;
        }
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        let value = json!({"directory": directory, "pages": names});
        let text = format!("wrote {} pages to {}", pages.len(), directory.display());
        out.result(&value, text);
        Ok(ExitCode::SUCCESS)
    }
}

/// The file name and roff text of a page for every visible subcommand.
fn pages() -> Result<Vec<(String, Vec<u8>)>> {
    // Without the subcommand `help`, which would repeat a page for each of the others.
    let mut command = crate::Cli::command().disable_help_subcommand(true);
    // Gives each subcommand its full name and the global options.
    command.build();
    let mut pages = Vec::new();
    add(&command, "ol", &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    // clap wants names of static lifetime; leaking them is fine for a few dozen.
    let title: &'static str = name.to_owned().leak();
    let mut text = Vec::new();
    Page::new(command.clone().name(title).display_name(title))
        .render(&mut text)
        .with_context(|| format!("failed to make the page of {name}"))?;
    pages.push((format!("{name}.1"), text));
    for inner in command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
    {
        add(inner, &format!("{name}-{}", inner.get_name()), pages)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(command: &Command, path: &str, look: &mut impl FnMut(&Command, &str)) {
        look(command, path);
        for inner in command
            .get_subcommands()
            .filter(|inner| !inner.is_hide_set())
        {
            each(inner, &format!("{path}-{}", inner.get_name()), look);
        }
    }

    fn built() -> Command {
        let mut command = crate::Cli::command().disable_help_subcommand(true);
        command.build();
        command
    }

    #[test]
    fn every_subcommand_has_a_page_that_names_its_options() {
        let pages = pages().expect("made");
        let mut expected = Vec::new();
        each(&built(), "ol", &mut |command, path| {
            let name = format!("{path}.1");
            let (_, text) = pages
                .iter()
                .find(|(page, _)| *page == name)
                .expect("a page");
            // roff writes a hyphen as \\-.
            let text = String::from_utf8(text.clone())
                .expect("text")
                .replace("\\-", "-");
            assert!(text.contains(&format!(".TH {path} 1")), "{name}: {text}");
            for section in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
                assert!(text.contains(section), "{name} has no {section}");
            }
            let options = command.get_opts().filter(|option| !option.is_hide_set());
            for long in options.filter_map(|option| option.get_long()) {
                assert!(text.contains(&format!("--{long}")), "{name} lacks --{long}");
            }
            expected.push(name);
        });
        assert_eq!(pages.len(), expected.len());
        for page in [
            "ol.1",
            "ol-worker.1",
            "ol-worker-up.1",
            "ol-admin-install.1",
        ] {
            assert!(expected.iter().any(|name| name == page), "{page}");
        }
    }

    #[test]
    fn everything_has_help() {
        each(&built(), "ol", &mut |command, path| {
            assert!(command.get_about().is_some(), "{path}");
            for argument in command
                .get_arguments()
                .filter(|argument| !argument.is_hide_set())
            {
                let help = argument
                    .get_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(!help.is_empty(), "{path} {}", argument.get_id());
            }
        });
    }
}
