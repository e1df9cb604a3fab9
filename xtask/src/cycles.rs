//! Which modules of a crate know each other in a circle. A circle can only be understood as a whole and tested as a whole, so none
//! is allowed.
//!
//! A module is what lies beneath one name in `src`. That it knows another is read from the text: `crate::OTHER`, and `super::OTHER` in a
//! file right in `src`, outside of comments and tests.

use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Of each module, those that it knows.
type Knows = BTreeMap<String, BTreeSet<String>>;

/// What is wrong with the modules of the crate `name` in the folder `src`.
pub(crate) fn complaints(name: &str, src: &Path) -> Result<Vec<String>> {
    let complaint = |knot: &Vec<String>| {
        format!(
            "{name}: these modules know each other in a circle: {}; let what they share lie in one that knows none of them",
            knot.join(", ")
        )
    };
    Ok(knots(&read(src)?).iter().map(complaint).collect())
}

/// What the modules in `src` know.
fn read(src: &Path) -> Result<Knows> {
    let mut knows = Knows::new();
    for file in files(src, None)? {
        let others = knows.entry(file.module).or_default();
        others.extend(named(&file.text, "crate::"));
        if file.top {
            others.extend(named(&file.text, "super::"));
        }
    }
    let modules: BTreeSet<String> = knows.keys().cloned().collect();
    for (module, others) in &mut knows {
        others.retain(|other| other != module && modules.contains(other));
    }
    Ok(knows)
}

struct Source {
    module: String,
    text: String,
    /// It lies right in `src`.
    top: bool,
}

/// The sources beneath `folder`, which belongs to `module` unless it is `src` itself.
fn files(folder: &Path, module: Option<&str>) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        let (module, top) = (module.unwrap_or(name), module.is_none());
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            files.extend(self::files(&path, Some(module))?);
        } else if path.extension().is_some_and(|end| end == "rs")
            && !matches!(module, "lib" | "main")
        {
            let text = fs::read_to_string(&path);
            let text = text.with_context(|| format!("read {}", path.display()))?;
            files.push(Source {
                module: module.to_owned(),
                text,
                top,
            });
        }
    }
    Ok(files)
}

/// What follows `before` in `text`, also within braces.
fn named(text: &str, before: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next();
    let code = code.unwrap_or_default().lines();
    let code: Vec<&str> = code
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let code = code.join("\n");
    let word = |text: &str| -> String {
        let letter = |c: &char| c.is_alphanumeric() || *c == '_';
        text.trim_start().chars().take_while(letter).collect()
    };
    code.split(before)
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => outermost(list).into_iter().map(word).collect(),
            None => vec![word(rest)],
        })
        .collect()
}

/// The entries of a list up to the brace that ends it, without splitting those that are lists themselves.
fn outermost(list: &str) -> Vec<&str> {
    let (mut entries, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                entries.push(&list[begin..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                entries.push(&list[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    entries
}

/// The sets of modules that can all be reached from each other, of more than one.
fn knots(knows: &Knows) -> Vec<Vec<String>> {
    let reach = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = next.pop() {
            for other in knows.get(&module).into_iter().flatten() {
                if seen.insert(other.clone()) {
                    next.push(other.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        knows.keys().map(|module| (module, reach(module))).collect();
    let mut knots = BTreeSet::new();
    for (module, seen) in &reached {
        if seen.contains(*module) {
            let back = |other: &&String| reached.get(other).is_some_and(|r| r.contains(*module));
            knots.insert(seen.iter().filter(back).cloned().collect::<Vec<_>>());
        }
    }
    knots.into_iter().filter(|knot| knot.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(arrows: &[(&str, &str)]) -> Knows {
        let mut knows = Knows::new();
        for (from, to) in arrows {
            let others = knows.entry((*from).to_owned()).or_default();
            others.insert((*to).to_owned());
            knows.entry((*to).to_owned()).or_default();
        }
        knows
    }

    #[test]
    fn a_circle_is_found_and_what_hangs_on_it_is_not_part_of_it() {
        assert!(knots(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
        let knotted = graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "a")]);
        assert_eq!(knots(&knotted), [["a", "b", "c"]]);
        let two = graph(&[("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "c")]);
        assert_eq!(knots(&two), [["a", "b"], ["c", "d"]]);
    }

    #[test]
    fn what_a_text_names_is_read_without_comments_and_tests() {
        let text = "use crate::one::Thing;\n// crate::two\nuse crate::{four::{A, B}, three};\nfn f() { crate::five::g() }\n#[cfg(test)]\nmod tests {\n use crate::six;\n}";
        let named = named(text, "crate::");
        for module in ["one", "three", "four", "five"] {
            assert!(named.iter().any(|name| name == module), "{module}");
        }
        for module in ["two", "six", "A", "B"] {
            assert!(!named.iter().any(|name| name == module), "{module}");
        }
    }
}
