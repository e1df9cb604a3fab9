//! Finds the known key a writer probably meant, for warnings and errors about unknown ones.

/// The candidate (a dotted path) most like `path`; the shortest of several equally alike.
///
/// A key put in the wrong section is as common as a misspelled one (`mem_mb` at the top instead
/// of under `limits`), so the last segment alone also counts: a little worse than in its place, and
/// worse still when another section was named.
pub(crate) fn nearest_key<'a>(
    path: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let asked = normal(path);
    candidates
        .into_iter()
        .min_by_key(|candidate| (distance(&asked, &normal(candidate)), candidate.len()))
}

fn distance(asked: &str, known: &str) -> usize {
    let whole = strsim::damerau_levenshtein(asked, known);
    let (asked_section, asked_leaf) = split(asked);
    let (known_section, known_leaf) = split(known);
    let elsewhere = match asked_section {
        same if same == known_section => 0,
        "" => 1,
        _ => 4,
    };
    whole.min(strsim::damerau_levenshtein(asked_leaf, known_leaf) + elsewhere)
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// Case and the choice of `-` or `_` are not what makes two keys different to their writer.
/// Cut short because the distance takes time quadratic in the length, and the text is a stranger's.
fn normal(path: &str) -> String {
    path.chars()
        .take(64)
        .map(|c| match c {
            '-' => '_',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = [
        "limits",
        "limits.mem_mb",
        "max_limits.mem_mb",
        "reuse-sandbox",
        "network",
    ];

    #[test]
    fn finds_what_was_meant() {
        let near = |path| nearest_key(path, KNOWN);
        assert_eq!(near("limts"), Some("limits"));
        assert_eq!(near("mem_mb"), Some("limits.mem_mb"));
        assert_eq!(near("limits.memmb"), Some("limits.mem_mb"));
        assert_eq!(near("reuse_sandbox"), Some("reuse-sandbox"));
        assert_eq!(near("Network"), Some("network"));
        assert_eq!(nearest_key("x", []), None);
    }
}
