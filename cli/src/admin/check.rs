//! What can be known to be wrong before anything is uploaded: the sooner it is said, the cheaper.

use anyhow::{Result, bail};
use ol_model::{FunctionConfig, Warning};

use super::pack::Bundle;

/// The entry file of a function that names none.
const ENTRY: &str = "f.py";

/// Checks `bundle`'s `ol.yaml` and that its entry file is there.
pub(super) fn check(bundle: &Bundle) -> Result<Vec<Warning>> {
    let yaml = bundle.text("ol.yaml")?.unwrap_or_default();
    let (config, warnings) = FunctionConfig::parse(&yaml)?;
    let variable = |name: &str| -> Result<Option<String>> {
        match &config.environment {
            Some(environment) => Ok(environment.get(name).cloned()),
            // As in the worker: a bundled .env counts where ol.yaml sets no environment.
            None => Ok(bundle
                .text(".env")?
                .and_then(|text| dotenv(&text, name).map(str::to_owned))),
        }
    };
    // These name file and object in one; what they mean is for the worker to say.
    if variable("OL_WSGI_ENTRY")?.is_some() || variable("OL_ASGI_ENTRY")?.is_some() {
        return Ok(warnings);
    }
    match variable("OL_ENTRY_FILE")? {
        Some(entry) if !bundle.has_file(&entry) => {
            bail!("the entry file {entry:?} that OL_ENTRY_FILE names is missing; add it")
        }
        None if !bundle.has_file(ENTRY) && bundle.has_file("f.bin") => {
            bail!("functions that are a program (f.bin) come later; give it an {ENTRY} for now")
        }
        None if !bundle.has_file(ENTRY) => bail!(
            "the entry file {ENTRY} is missing; add it, or name another as OL_ENTRY_FILE in \
             ol.yaml's environment"
        ),
        _ => Ok(warnings),
    }
}

/// The value of `name` in a `.env` file: the last line that sets it.
fn dotenv<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .rev()
        .map(str::trim)
        .filter_map(|line| line.strip_prefix("export ").unwrap_or(line).split_once('='))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(files: &[(&str, &str)]) -> Result<usize, String> {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        for (name, content) in files {
            std::fs::write(scratch.path().join(name), content).expect("a file");
        }
        let bundle = Bundle::collect(scratch.path()).expect("collected");
        check(&bundle)
            .map(|warnings| warnings.len())
            .map_err(|error| error.to_string())
    }

    const NAMED: &str = "environment: {OL_ENTRY_FILE: main.py}";

    #[test]
    fn the_entry_file_must_be_there() {
        assert_eq!(checked(&[("f.py", "")]), Ok(0));
        assert_eq!(checked(&[("main.py", ""), ("ol.yaml", NAMED)]), Ok(0));
        assert_eq!(
            checked(&[("main.py", ""), (".env", "OL_ENTRY_FILE='main.py'")]),
            Ok(0)
        );
        let missing = checked(&[("main.py", "")]).expect_err("no f.py");
        assert!(
            missing.starts_with("the entry file f.py is missing"),
            "{missing}"
        );
        let missing = checked(&[("f.py", ""), ("ol.yaml", NAMED)]).expect_err("no main.py");
        assert!(missing.contains("\"main.py\""), "{missing}");
        // An environment in ol.yaml puts .env out of force.
        let files = [
            ("f.py", ""),
            (".env", "OL_ENTRY_FILE=x.py"),
            ("ol.yaml", "environment: {}"),
        ];
        assert_eq!(checked(&files), Ok(0));
    }

    #[test]
    fn the_yaml_is_read() {
        assert_eq!(checked(&[("f.py", ""), ("ol.yaml", "limts: {}")]), Ok(1));
        let error = checked(&[("f.py", ""), ("ol.yaml", "concurrency: 0")]);
        assert!(error.is_err_and(|text| text.contains("concurrency")));
    }
}
