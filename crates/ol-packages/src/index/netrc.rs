//! `.netrc`: names and passwords by host, as pip, uv and curl read them.

/// The name and password for a host: its own, or those of `default`.
pub(super) fn credentials(text: &str, host: &str) -> Option<(String, String)> {
    let words: Vec<&str> = text
        .lines()
        .map(|line| line.split_once(" #").map_or(line, |(before, _)| before))
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .collect();
    let mut entries: Vec<(Option<&str>, &str, &str)> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let next = words.get(at + 1).copied().unwrap_or("");
        at += 2;
        match words[at - 2] {
            "machine" => entries.push((Some(next), "", "")),
            "default" => {
                entries.push((None, "", ""));
                at -= 1;
            }
            "login" => entries
                .last_mut()
                .into_iter()
                .for_each(|entry| entry.1 = next),
            "password" => entries
                .last_mut()
                .into_iter()
                .for_each(|entry| entry.2 = next),
            // A macro ends at an empty line, and empty lines are lost here; thus nothing after `macdef` is read.
            "macdef" => break,
            _ => {}
        }
    }
    let own = entries
        .iter()
        .find(|entry| entry.0.is_some_and(|name| name.eq_ignore_ascii_case(host)));
    let found = own.or_else(|| entries.iter().find(|entry| entry.0.is_none()));
    found.map(|(_, user, password)| ((*user).to_owned(), (*password).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::credentials;

    #[test]
    fn a_host_has_its_own_or_the_default() {
        let text = "# a comment\nmachine a.example login me password p1\nmachine b.example\n  login you\n  password p#2\ndefault login any password p3\n";
        let of = |host| credentials(text, host);
        assert_eq!(of("a.example"), Some(("me".into(), "p1".into())));
        assert_eq!(of("B.example"), Some(("you".into(), "p#2".into())));
        assert_eq!(of("c.example"), Some(("any".into(), "p3".into())));
        assert_eq!(credentials("machine a login", "b"), None);
        assert_eq!(credentials("machine", "b"), None);
    }
}
