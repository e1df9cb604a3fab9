//! Finds the known key that an author probably meant, for warnings and errors about unknown keys.

/// The candidate (a dotted path) most similar to `path`; the shortest of several that are equally similar.
///
/// A key in the wrong section (`mem_mb` at the top instead of under `limits`) is as common as a misspelled one. Therefore the last
/// segment alone is compared too; such a match counts a little worse, and worse still if `path` names another section.
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

/// Normalises a path for comparison: case and the choice of `-` or `_` don't matter.
///
/// The result is cut short, since computing the distance takes time quadratic in the length, and the text is not trusted.
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
