//! `uv.toml`: the indexes that it names.

use serde::Deserialize;

/// The settings about indexes; everything else in the file is ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct UvToml {
    #[serde(default)]
    index: Vec<Entry>,
    index_url: Option<String>,
    #[serde(default)]
    extra_index_url: Vec<String>,
    pip: Option<Box<UvToml>>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    url: String,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    explicit: bool,
}

impl UvToml {
    /// # Errors
    /// The parser's message, without lines of the file, which may contain a password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    /// The index to ask last, which replaces PyPI.
    pub(super) fn default_index(&self) -> Option<&str> {
        let marked = self.index.iter().find(|entry| entry.default);
        marked
            .map(|entry| entry.url.as_str())
            .or(self.pip.as_deref().and_then(Self::default_index))
            .or(self.index_url.as_deref())
    }

    /// The indexes to ask before it. Explicit ones are left out: they serve only packages that a project pins to them.
    pub(super) fn extra(&self) -> Vec<String> {
        let listed = self
            .index
            .iter()
            .filter(|entry| !entry.default && !entry.explicit);
        let own = listed
            .map(|entry| &entry.url)
            .chain(&self.extra_index_url)
            .cloned();
        own.chain(self.pip.iter().flat_map(|pip| pip.extra()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::UvToml;

    #[test]
    fn all_the_ways_to_name_an_index() {
        let text = "native-tls = true\n[[index]]\nname='a'\nurl='https://a/simple'\n[[index]]\nurl='https://b/simple'\ndefault=true\n[[index]]\nurl='https://c/simple'\nexplicit=true\n[pip]\nextra-index-url=['https://d/simple']\n";
        let uv = UvToml::parse(text).expect("good");
        assert_eq!(uv.default_index(), Some("https://b/simple"));
        assert_eq!(uv.extra(), ["https://a/simple", "https://d/simple"]);
        let old = UvToml::parse("index-url = 'https://e/simple'").expect("good");
        assert_eq!(old.default_index(), Some("https://e/simple"));
        let said = UvToml::parse("index-url = 7 # https://me:secret@h/").expect_err("a number");
        assert!(!said.contains("secret"), "{said}");
    }
}
