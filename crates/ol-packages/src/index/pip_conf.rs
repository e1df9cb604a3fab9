//! `pip.conf`: only the settings that say where packages come from.
//!
//! pip reads the file with Python's configparser: sections, `key = value`, continuation lines of a value indented. A command's own section
//! overrides `[global]`. Other keys are ignored.

use std::collections::HashMap;

/// The settings of `[global]` and `[install]`; `_` in keys is written as `-`.
#[derive(Debug, Default)]
pub(super) struct PipConf(HashMap<String, String>);

impl PipConf {
    /// Adds the settings in a file's text; later files override earlier ones.
    pub(super) fn read(&mut self, text: &str) {
        for section in ["global", "install"] {
            for (key, value) in entries(text, section) {
                self.0.insert(key, value);
            }
        }
    }

    /// One value; `None` if it is empty.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .get(key)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// A value that is a list of words separated by blanks.
    pub(super) fn words(&self, key: &str) -> Vec<String> {
        let value = self.get(key).unwrap_or("");
        value.split_whitespace().map(str::to_owned).collect()
    }
}

fn entries(text: &str, wanted: &str) -> Vec<(String, String)> {
    let mut inside = false;
    let mut found: Vec<(String, String)> = Vec::new();
    // Whether an indented line continues a value of the wanted section.
    let mut open = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with([' ', '\t']) && open {
            if let Some((_, value)) = found.last_mut() {
                value.push('\n');
                value.push_str(trimmed);
            }
            continue;
        }
        if let Some(name) = trimmed
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            inside = name.trim() == wanted;
            open = false;
        } else if let Some((key, value)) = trimmed.split_once(['=', ':']).filter(|_| inside) {
            let key = key.trim().to_ascii_lowercase().replace('_', "-");
            found.push((key, value.trim().to_owned()));
            open = true;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::PipConf;

    #[test]
    fn sections_lists_and_later_files() {
        let mut conf = PipConf::default();
        conf.read("[global]\nindex-url = https://a/simple\ncert: /etc/ca.pem\n; no\n[list]\nproxy = x:1\n");
        conf.read("[install]\nextra_index_url =\n    https://b/simple\n    https://c/simple\n[global]\nindex-url=https://d/simple\n");
        assert_eq!(conf.get("index-url"), Some("https://d/simple"));
        assert_eq!(conf.get("cert"), Some("/etc/ca.pem"));
        assert_eq!(conf.get("proxy"), None);
        assert_eq!(
            conf.words("extra-index-url"),
            ["https://b/simple", "https://c/simple"]
        );
    }
}
