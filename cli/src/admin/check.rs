//! Checks of a function before anything is uploaded, so that mistakes are reported early.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use anyhow::{Result, bail};
use ol_model::{FunctionConfig, dotenv};

/// The entry file of a function that names none.
const ENTRY: &str = "f.py";
/// The entry file of a function that is a program.
const PROGRAM: &str = "f.bin";

/// A function's files, packed or not.
pub(super) trait Files {
    /// Whether there is a file of this name.
    fn has_file(&self, name: &str) -> bool;
    /// The text of the file `name`; `None` when there is no such file.
    fn text(&self, name: &str) -> Result<Option<String>>;
}

/// Checks `ol.yaml`, `.env`, `requirements.txt`, and that the entry file is there. Returns warnings.
pub(super) fn check(files: &impl Files) -> Result<Vec<String>> {
    let yaml = files.text("ol.yaml")?.unwrap_or_default();
    let (config, warnings) = FunctionConfig::parse(&yaml)?;
    let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let environment = environment(files, config.environment, &mut warnings)?;
    entry(files, &environment, &mut warnings)?;
    if let Some(text) = files.text("requirements.txt")?
        && text.contains('\0')
    {
        bail!("requirements.txt holds NUL, so that it is no text; write one package per line");
    }
    Ok(warnings)
}

/// The environment that the function will have. As in the worker, a bundled `.env` is used only if `ol.yaml` sets no environment.
fn environment(
    files: &impl Files,
    set: Option<BTreeMap<String, String>>,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, String>> {
    let bundled = files.has_file(".env");
    match set {
        Some(environment) => {
            if bundled {
                warnings.push(
                    ".env is not read, since ol.yaml sets an environment; keep one of them"
                        .to_owned(),
                );
            }
            Ok(environment)
        }
        None => {
            let text = files.text(".env")?.unwrap_or_default();
            let (environment, more) = dotenv::parse(&text)?;
            warnings.extend(more.iter().map(ToString::to_string));
            Ok(environment)
        }
    }
}

fn entry(
    files: &impl Files,
    environment: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    for variable in ["OL_WSGI_ENTRY", "OL_ASGI_ENTRY"] {
        if let Some(name) = environment.get(variable)
            && (name.contains([':', '/']) || name.ends_with(".py"))
        {
            warnings.push(format!(
                "{variable} names an object in the entry file, as in app; {name:?} looks like a file, \
                 which OL_ENTRY_FILE names"
            ));
        }
    }
    let Some(named) = environment.get("OL_ENTRY_FILE") else {
        if files.has_file(ENTRY) {
            return Ok(());
        }
        if files.has_file(PROGRAM) {
            bail!(
                "functions that are a program ({PROGRAM}) come later; give it an {ENTRY} for now"
            );
        }
        bail!(
            "the entry file {ENTRY} is missing; add it, or name another as OL_ENTRY_FILE in \
             ol.yaml's environment"
        );
    };
    let inside = Path::new(named)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if named.is_empty() || !inside {
        bail!(
            "OL_ENTRY_FILE {named:?} is no file of the function; name one by its path in the directory"
        );
    }
    if !files.has_file(named) {
        bail!("the entry file {named:?} that OL_ENTRY_FILE names is missing; add it");
    }
    if Path::new(named)
        .extension()
        .is_none_or(|extension| extension != "py")
    {
        warnings.push(format!(
            "OL_ENTRY_FILE {named:?} is read as Python; call it something.py if it is"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
