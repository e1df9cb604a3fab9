//! Whole files: what is understood, what is refused and with which message, and arbitrary bytes.

use proptest::prelude::*;

use super::{Fault, Requirements, RequirementsError};

const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn parse(text: &str) -> Requirements {
    Requirements::parse(text.as_bytes()).expect(text)
}

fn refusal(text: &str) -> String {
    let error = Requirements::parse(text.as_bytes()).expect_err(text);
    error.to_string()
}

#[test]
fn what_people_and_tools_write_is_brought_to_one_form() {
    let text = format!(
        "\u{feff}# what we need\r\n\
         \n\
         Zope.Interface >= 5 , != 5.1.*,<6\r\n\
         requests[Socks, security] (==2.31.0)  # for the API\n\
         uvicorn[]~=0.30 ; python_version>='3.9' and (os_name == \"posix\")\n\
         numpy\n\
         numpy\n\
         idna==3.7 \\\n    --hash=sha256:{HASH} \\\n    --hash sha256:{}\n    # via requests\n",
        HASH.to_uppercase()
    );
    let expected = format!(
        "idna==3.7 \\\n    --hash=sha256:{HASH}\n\
         numpy\n\
         requests[security,socks]==2.31.0\n\
         uvicorn~=0.30 ; python_version >= \"3.9\" and (os_name == \"posix\")\n\
         zope-interface!=5.1.*,<6,>=5\n"
    );
    assert_eq!(parse(&text).render(), expected);
}

#[test]
fn pinned_is_one_equals_without_a_star() {
    for (text, pinned) in [
        ("", true),
        ("a==1\nb==2.0.post1 ; os_name == 'nt'", true),
        ("a==1\nb", false),
        ("a==1.*", false),
        ("a===1", false),
        ("a==1,!=2", false),
        ("a>=1", false),
    ] {
        assert_eq!(parse(text).all_pinned(), pinned, "{text}");
    }
}

#[test]
fn the_digest_knows_what_is_asked_and_not_how() {
    let one = parse("b>=1,<2\nA.B==1");
    assert_eq!(one.digest(), parse("# c\na_b == 1\nb <2, >=1").digest());
    assert_ne!(one.digest(), parse("b>=1,<2\nA.B==2").digest());
    // Digests are kept with versions of functions, thus must not change from one release to the next.
    let digest = one.digest().to_string();
    assert_eq!(
        digest,
        "4b5d5eb9bfa9ecd979b520ee48a29881004b6ee3a9a6750718a3b8c149b5f789"
    );
}

#[test]
fn what_reaches_out_of_the_index_is_refused_by_name() {
    for (line, named, remedy) in [
        ("-r other.txt", "option -r ", "that file's lines"),
        ("-rother.txt", "option -r ", "that file's lines"),
        (
            "--requirement=x",
            "option --requirement ",
            "that file's lines",
        ),
        ("-c x", "option -c ", "that file's lines"),
        ("-e .", "option -e ", "into the bundle"),
        ("--editable ./x", "option --editable ", "into the bundle"),
        ("--index-url https://x", "option --index-url ", "pip_mirror"),
        ("-i https://x", "option -i ", "pip_mirror"),
        (
            "--extra-index-url x",
            "option --extra-index-url ",
            "pip_mirror",
        ),
        ("--trusted-host x", "option --trusted-host ", "pip_mirror"),
        ("--find-links x", "option --find-links ", "package index"),
        ("--no-binary :all:", "option --no-binary ", "wheels"),
        ("--pre", "option --pre ", "==2.0rc1"),
        ("--weird", "option --weird ", "remove it"),
        (
            "x==1 --config-settings=a",
            "option --config-settings ",
            "remove it",
        ),
        ("x==1 -r y", "option -r ", "that file's lines"),
        (
            "x @ https://e.org/x.whl",
            "\"x\" comes from a URL",
            "x==1.0",
        ),
        ("X [a]@file:///x", "\"x\" comes from a URL", "x==1.0"),
        (
            "git+https://e.org/x@main#egg=x",
            "version control",
            "into the bundle",
        ),
        ("https://u:p@e.org/x.whl", "is a URL", "NAME==1.0"),
        ("file:x", "is a URL", "NAME==1.0"),
        ("./x", "\"./x\" is a path", "into the bundle"),
        ("..", "\"..\" is a path", "into the bundle"),
        ("../x==1", "is a path", "into the bundle"),
        ("~/x", "is a path", "into the bundle"),
        ("a/b", "is a path", "into the bundle"),
        ("C:\\x", "is a path", "into the bundle"),
        ("x-1.0-py3-none-any.whl", "is a path", "into the bundle"),
        ("requirements.txt", "is a path", "into the bundle"),
        (
            "x==${VERSION}",
            "${VERSION} of the environment",
            "the value itself",
        ),
        ("x==1 --hash=md5:abc", "a hash by md5", "sha256"),
        (
            "x==1 --hash=sha256:abc",
            "\"abc\" is no SHA-256",
            "64 hexadecimal",
        ),
        ("x==1 --hash", "a hash by ", "sha256"),
        ("x == one", "\"== one\" is no condition", "==1.26.4"),
        ("x = 1", "\"= 1\" is no condition", "==1.26.4"),
        ("x 1.0", "\"1.0\" is no condition", "==1.26.4"),
        ("x==1,", "is no condition", "==1.26.4"),
        ("x (==1", "is no condition", "==1.26.4"),
        ("x[a", "\"[a\" are no extras", "[standard,http2]"),
        ("x[a b]", "are no extras", "[standard,http2]"),
        ("x; os == 'nt'", "marker \"os == 'nt'\"", "PEP 508"),
        ("é", "\"é\" is no package name", "letters, digits"),
        ("-", "option - ", "remove it"),
        ("x\u{b}y", "control character \\u{b}", "remove it"),
    ] {
        let text = refusal(&format!("good==1\n\n{line}\n"));
        assert!(text.starts_with("line 3: "), "{line}: {text}");
        assert!(
            text.contains(named) && text.contains(remedy),
            "{line}: {text}"
        );
        assert!(!text.contains('\n') && text.len() < 400, "{text}");
    }
}

#[test]
fn a_continued_line_is_named_where_it_begins() {
    let text = refusal("\nx \\\n  ==1 \\\n  --hash=md5:0\n");
    assert!(text.starts_with("line 2: "), "{text}");
}

#[test]
fn too_much_is_refused() {
    let entries: String = (0..1_001).map(|n| format!("p{n}\n")).collect();
    let hashes: String = (0..2_001)
        .map(|n| format!(" --hash=sha256:{n:064x}"))
        .collect();
    for (text, what) in [
        (&"#".repeat((1 << 20) + 1), "over 1048576 bytes"),
        (&"\n".repeat(50_001), "over 50000 lines"),
        (&entries, "over 1000 requirements"),
        (&format!("x=={}", "1".repeat(5_000)), "over 4096 bytes"),
        (&format!("x==1{hashes}"), "over 2000 hashes"),
    ] {
        let text = refusal(text);
        assert!(text.contains(what), "{what}: {text}");
    }
    let latin = Requirements::parse(b"caf\xe9");
    assert_eq!(latin, Err(RequirementsError::Encoding));
}

#[test]
fn a_pyproject_asks_by_its_project_table() {
    let parsed = Requirements::parse_pyproject(
        b"[build-system]\nrequires = ['hatchling']\n[project]\nname = 'x'\ndynamic = ['version']\n\
          dependencies = [\n  'B>=1',\n  \"a[x]; os_name == 'posix'\",\n]\n[tool.x]\ny = 1\n",
    );
    let text = parsed.expect("sound").render();
    assert_eq!(text, "a[x] ; os_name == \"posix\"\nb>=1\n");
    for nothing in [
        "",
        "[tool.black]\nline-length = 100",
        "[project]\nname = 'x'",
    ] {
        let parsed = Requirements::parse_pyproject(nothing.as_bytes());
        assert!(parsed.expect(nothing).is_empty());
    }
    for (text, start, named) in [
        (
            "[project]\ndependencies = [\n 'a',\n 'b @ file:/x']",
            "line 4: ",
            "comes from a URL",
        ),
        (
            "[project]\ndependencies = ['a # c']",
            "line 2: ",
            "\"# c\" is no condition",
        ),
        (
            "[project]\ndependencies = ['a==1 --hash=sha256:0']",
            "line 2: ",
            "no condition",
        ),
        (
            "[project]\ndependencies = ['-r x']",
            "line 2: ",
            "is no package name",
        ),
        (
            "[project]\ndependencies = ['${X}']",
            "line 2: ",
            "${X} of the environment",
        ),
        (
            "[project]\ndependencies = [\"a\\nb\"]",
            "line 2: ",
            "control character",
        ),
        (
            "[project]\n\ndynamic = ['dependencies']",
            "line 3: ",
            "dynamic",
        ),
        (
            "[project]\ndependencies = 'a'",
            "pyproject.toml",
            "at line 2",
        ),
        ("[project]\n\n=", "pyproject.toml", "at line 3"),
    ] {
        let error = Requirements::parse_pyproject(text.as_bytes()).expect_err(text);
        let said = error.to_string();
        assert!(
            said.starts_with(start) && said.contains(named),
            "{text}: {said}"
        );
    }
    let nested = format!("x = {}", "[".repeat(100_000));
    let error = Requirements::parse_pyproject(nested.as_bytes());
    assert!(matches!(error, Err(RequirementsError::Toml { .. })));
}

#[test]
fn faults_say_what_and_what_instead() {
    let fault = RequirementsError::Line {
        line: 7,
        fault: Fault::Option {
            option: "-e".to_owned(),
            remedy: super::fault::remedy("-e"),
        },
    };
    assert_eq!(
        fault.to_string(),
        "line 7: option -e is not taken here; put the code into the bundle"
    );
}

/// Fragments of requirements syntax, to be combined at random.
fn piece() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "a",
        "B.c",
        "==",
        "1.0",
        ">=2",
        "~=1.1",
        "===1",
        "1.*",
        ",",
        " ",
        ";",
        "\n",
        "\\\n",
        "#",
        "[",
        "]",
        "x",
        "(",
        ")",
        "os_name",
        "'nt'",
        "\"",
        "'",
        "in",
        "not",
        "and",
        "or",
        " --hash=sha256:",
        HASH,
        "@",
        "/",
        "${",
        "}",
        "-",
        "\t",
        "!=1!2.post3.dev4+l.1",
        "\r",
    ]);
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

proptest! {
    #[test]
    fn any_bytes_parse_or_dont(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (Requirements::parse(&bytes), Requirements::parse_pyproject(&bytes));
    }

    #[test]
    fn what_is_rendered_parses_to_the_same(pieces in prop::collection::vec(piece(), 0..14)) {
        let text = pieces.concat();
        if let Ok(parsed) = Requirements::parse(text.as_bytes()) {
            let again = Requirements::parse(parsed.render().as_bytes());
            prop_assert_eq!(again.as_ref(), Ok(&parsed), "{}", text);
        }
    }

    /// Valid by construction, so that the property isn't only about refusals.
    #[test]
    fn sound_lines_survive(
        name in "[A-Za-z][A-Za-z0-9._-]{0,8}[a-z]",
        extras in prop::collection::vec("[a-z]{1,4}", 0..3),
        versions in prop::collection::vec(("(>=|<=|!=|==|<|>|~=)", "[0-9]{1,2}\\.[0-9]{1,3}(rc1|\\.post2|a3)?"), 0..3),
        marker in prop::option::of(prop::sample::select(vec!["os_name=='nt'", "'3'<python_version and(extra=='x')"])),
        hashed in any::<bool>(),
    ) {
        let extras = if extras.is_empty() { String::new() } else { format!("[{}]", extras.join(" ,")) };
        let versions: Vec<_> = versions.iter().map(|(operator, version)| format!("{operator} {version}")).collect();
        let marker = marker.map(|marker| format!(";{marker}")).unwrap_or_default();
        let hash = if hashed { format!(" --hash=sha256:{HASH}") } else { String::new() };
        let text = format!("{name} {extras}{}{marker}{hash}", versions.join(","));
        let parsed = Requirements::parse(text.as_bytes());
        let parsed = parsed.map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let rendered = parsed.render();
        let again = Requirements::parse(rendered.as_bytes()).expect("what was rendered");
        prop_assert_eq!(&again, &parsed);
        prop_assert_eq!(again.render(), rendered);
    }
}
