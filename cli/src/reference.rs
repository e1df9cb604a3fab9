//! `docs/reference/cli.md`: the page of all commands, made from what `--help` is made from.
//!
//! The page is a file of the repository, so that people can read it where they read the others. The test here fails when it isn't what
//! the definitions say; `UPDATE_DOCS=1 cargo test -p ol the_page` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command, CommandFactory as _};

const INTRODUCTION: &str = "\
# `ol`: all commands

This page is made from the definitions that `ol --help` and the manual pages are made from. Don't edit it: change the definition in `cli/src/`, then run
`UPDATE_DOCS=1 cargo test -p ol the_page`.

Exit codes: 0 the command did what it was asked, 1 it failed (the reason is on standard error), 2 it was used wrongly.

";

/// All that is the same for each command.
const EVERYWHERE: [&str; 3] = ["output", "help", "version"];

fn page() -> String {
    let mut command = crate::Cli::command().disable_help_subcommand(true);
    command.build();
    let mut page = INTRODUCTION.to_owned();
    page.push_str("These options are there for every command:\n\n");
    page.push_str(&table(command.get_arguments()));
    add(&mut page, &mut command, "ol", 2);
    page
}

/// `command` and those below it.
fn add(page: &mut String, command: &mut Command, name: &str, depth: usize) {
    let mut before: Option<(String, String)> = None;
    let inner: Vec<String> = command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
        .map(|inner| inner.get_name().to_owned())
        .collect();
    for inner in inner {
        let Some(command) = command.find_subcommand_mut(&inner) else {
            continue;
        };
        let name = format!("{name} {inner}");
        let about = command.get_long_about().or(command.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        let end = if about.ends_with('?') { "" } else { "." };
        let _ = write!(page, "\n{} `{name}`\n\n{about}{end}\n", "#".repeat(depth));
        if command.has_subcommands() {
            add(page, command, &name, depth + 1);
            continue;
        }
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        let _ = write!(page, "\n```text\n{usage}\n```\n");
        let own = command
            .get_arguments()
            .filter(|argument| !EVERYWHERE.contains(&argument.get_id().as_str()));
        let table = table(own);
        match &before {
            Some((like, same)) if *same == table && !table.is_empty() => {
                let _ = write!(page, "\nIts options are those of `{like}`.\n");
            }
            _ => {
                if !table.is_empty() {
                    let _ = write!(page, "\n{table}");
                }
                before = Some((name, table));
            }
        }
    }
}

/// A row for each argument that people see.
fn table<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let mut rows = String::new();
    for argument in arguments.filter(|argument| !argument.is_hide_set()) {
        let help = argument.get_help().map(ToString::to_string);
        let mut meaning = help.unwrap_or_default();
        let takes_values = argument.get_action().takes_values();
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|value| takes_values && !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !values.is_empty() {
            let _ = write!(meaning, ": {}", values.join(", "));
        }
        let defaults = argument.get_default_values().iter();
        let default: Vec<String> = defaults
            .filter(|_| takes_values)
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        let (names, default) = (shown(argument), default.join(", "));
        let _ = writeln!(
            rows,
            "| {} | {} | {} |",
            cell(&names),
            cell(&default),
            cell(&meaning)
        );
    }
    if rows.is_empty() {
        return rows;
    }
    format!("| argument or option | default | meaning |\n|---|---|---|\n{rows}")
}

/// `-s`, `--seconds SECONDS`, or the name of an argument without a dash.
fn shown(argument: &Arg) -> String {
    let values = argument.get_value_names().unwrap_or_default();
    let values: Vec<&str> = values
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|name| name.as_str())
        .collect();
    if argument.is_positional() {
        return format!("`{}`", values.join(" "));
    }
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let mut names: Vec<String> = short.into_iter().chain(long).collect();
    if let Some(last) = names.last_mut() {
        for value in values {
            let _ = write!(last, " {value}");
        }
    }
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[test]
fn the_page_says_what_the_definitions_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/cli.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some_and(|set| set == "1") {
        std::fs::write(&path, &page).expect("written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "docs/reference/cli.md isn't what the commands are: run `UPDATE_DOCS=1 cargo test -p ol the_page`, and look at what changed"
    );
}
