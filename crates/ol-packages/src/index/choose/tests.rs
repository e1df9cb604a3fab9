//! Which source wins when several name an index, and what an installer may then reach.

use super::super::host::texts::index;
use super::{Host, Index, Reach, Wanted};

const HOME: (&str, &str) = ("HOME", "/home/me");

fn default(mirror: &str, variables: &[(&str, &str)], files: &[(&str, &str)]) -> (String, String) {
    let found = index(mirror, variables, files).expect("good");
    (found.default.to_string(), found.origin)
}

#[test]
fn pip_mirror_then_variables_then_files() {
    let files = [
        ("/etc/pip.conf", "[global]\nindex-url = https://etc/simple"),
        (
            "/home/me/.config/pip/pip.conf",
            "[global]\nindex-url = https://home/simple",
        ),
        (
            "/home/me/.config/uv/uv.toml",
            "index-url = 'https://uv/simple'",
        ),
    ];
    let variables = [
        HOME,
        ("UV_DEFAULT_INDEX", "corp=https://uvvar/simple"),
        ("PIP_INDEX_URL", "https://pipvar/simple"),
    ];
    let named = |url: &str, origin: &str| (url.to_owned(), origin.to_owned());
    assert_eq!(
        default(" https://mirror/simple ", &variables, &files),
        named("https://mirror/simple", "pip_mirror")
    );
    assert_eq!(
        default("", &variables, &files),
        named("https://pipvar/simple", "PIP_INDEX_URL")
    );
    assert_eq!(
        default("", &variables[..2], &files),
        named("https://uvvar/simple", "UV_DEFAULT_INDEX")
    );
    assert_eq!(
        default("", &variables[..1], &files),
        named("https://home/simple", "pip.conf")
    );
    assert_eq!(
        default("", &[], &files),
        named("https://etc/simple", "pip.conf")
    );
    let uv = named("https://uv/simple", "/home/me/.config/uv/uv.toml");
    assert_eq!(default("", &variables[..1], &files[2..]), uv);
    assert_eq!(
        default("", &[], &[]),
        named("https://pypi.org/simple", "the default")
    );
}

#[test]
fn extras_come_before_the_default_and_from_the_same_place() {
    let variables = [
        ("PIP_EXTRA_INDEX_URL", "https://a/simple https://b/simple"),
        ("UV_INDEX", "https://c/simple"),
    ];
    let found = index("", &variables, &[]).expect("good");
    let urls: Vec<String> = found.urls().map(ToString::to_string).collect();
    assert_eq!(
        urls,
        [
            "https://a/simple",
            "https://b/simple",
            "https://pypi.org/simple"
        ]
    );
}

#[test]
fn a_mirror_may_be_anywhere_and_pypi_must_be_public() {
    let reach = |mirror: &str| -> Vec<(String, Reach)> {
        let found = index(mirror, &[], &[]).expect("good").destinations;
        found
            .iter()
            .map(|found| (found.to_string(), found.reach))
            .collect()
    };
    assert_eq!(
        reach(""),
        [
            ("files.pythonhosted.org:443".to_owned(), Reach::Public),
            ("pypi.org:443".to_owned(), Reach::Public)
        ]
    );
    assert_eq!(
        reach("http://127.0.0.1:8081/x/"),
        [("127.0.0.1:8081".to_owned(), Reach::Own)]
    );
    assert_eq!(
        reach("https://[fd00::1]/simple"),
        [("[fd00::1]:443".to_owned(), Reach::Own)]
    );
    assert_eq!(
        reach("https://Mirror.Example./simple"),
        [("mirror.example:443".to_owned(), Reach::Own)]
    );
}

#[test]
fn hosts_of_files_are_configured() {
    let hosts = ["Files.example:8443".to_owned(), "cdn.example".to_owned()];
    let host = Host::new(&|_| None, &|_| Err(std::io::ErrorKind::NotFound.into()));
    let of = |hosts: &[String]| {
        let wanted = Wanted {
            mirror: "http://m.example/simple/",
            package_hosts: hosts,
        };
        Index::of(&host, &wanted)
    };
    let found = of(&hosts).expect("good");
    let all: Vec<_> = found
        .destinations
        .iter()
        .map(|found| (found.to_string(), found.reach))
        .collect();
    assert_eq!(
        all,
        [
            ("m.example:80".to_owned(), Reach::Own),
            ("files.example:8443".to_owned(), Reach::Own),
            ("cdn.example:443".to_owned(), Reach::Own),
        ]
    );
    for bad in ["a/b", "me@h", "", "h:x"] {
        let said = of(&[bad.to_owned()]).expect_err(bad).to_string();
        assert!(said.contains("HOST:PORT"), "{said}");
    }
}

#[test]
fn netrc_gives_credentials_that_nobody_prints() {
    let files = [(
        "/home/me/.netrc",
        "machine pypi.example login me password sec/ret",
    )];
    let found = index("https://pypi.example/simple", &[HOME], &files).expect("good");
    assert_eq!(
        found.default.credentials(),
        Some(("me".into(), "sec/ret".into()))
    );
    assert!(
        !format!("{found:?} {}", found.default).contains("ret"),
        "{found:?}"
    );
    let other = index("https://you:own@pypi.example/simple", &[HOME], &files).expect("good");
    assert_eq!(
        other.default.credentials(),
        Some(("you".into(), "own".into()))
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let said = index("", &[("PIP_INDEX_URL", "pypi.corp/simple")], &[])
        .expect_err("no URL")
        .to_string();
    assert!(
        said.contains("PIP_INDEX_URL") && said.contains("https://HOST/simple"),
        "{said}"
    );
    let said = index("", &[], &[("/etc/uv/uv.toml", "index-url = [")])
        .expect_err("no TOML")
        .to_string();
    assert!(said.starts_with("/etc/uv/uv.toml: "), "{said}");
}
