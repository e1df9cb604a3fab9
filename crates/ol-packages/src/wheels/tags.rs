//! Which wheels an interpreter can use, and which suits it best, by their file names alone (PEP 425, 600, 656).

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The kinds of wheels that an interpreter can use, as found out by the program in `inside/`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Told")]
pub struct Tags {
    /// `N` of CPython 3.N.
    pub minor: u32,
    /// Its ABI: `cp311`, `cp313t`.
    pub abi: String,
    /// The machine as wheels call it: `x86_64`.
    pub machine: String,
    /// The C library; `None` if it is neither glibc nor musl: then only wheels without native code fit.
    pub libc: Option<Libc>,
}

/// The same fields, not validated yet.
#[derive(Deserialize)]
struct Told {
    minor: u32,
    abi: String,
    machine: String,
    libc: Option<Libc>,
}

impl TryFrom<Told> for Tags {
    type Error = &'static str;

    fn try_from(told: Told) -> Result<Self, Self::Error> {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let names = [&told.abi, &told.machine];
        let good = names
            .iter()
            .all(|name| (1..=40).contains(&name.len()) && name.bytes().all(sound));
        if !good {
            return Err("an ABI and a machine are letters, digits and _");
        }
        Ok(Self {
            minor: told.minor,
            abi: told.abi,
            machine: told.machine,
            libc: told.libc,
        })
    }
}

/// A C library and its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Libc {
    /// On most distributions.
    Glibc(u32, u32),
    /// On Alpine.
    Musl(u32, u32),
}

/// In the form used in file names: `3.11-cp311-linux_x86_64-glibc_2_36`.
impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}-{}-linux_{}-", self.minor, self.abi, self.machine)?;
        match self.libc {
            Some(Libc::Glibc(major, minor)) => write!(f, "glibc_{major}_{minor}"),
            Some(Libc::Musl(major, minor)) => write!(f, "musl_{major}_{minor}"),
            None => f.write_str("none"),
        }
    }
}

/// The parts of a wheel's file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelName<'a> {
    /// The project's name, as written.
    pub project: &'a str,
    /// By PEP 440.
    pub version: pep440_rs::Version,
    /// Decides between wheels that are otherwise alike; 0 if the name has no build number.
    build: u64,
    python: &'a str,
    abi: &'a str,
    platform: &'a str,
}

impl<'a> WheelName<'a> {
    /// Splits `PROJECT-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl`.
    ///
    /// `None` if the name has another form, or contains characters that no honest file name does, like a path separator.
    #[must_use]
    pub fn parse(file: &'a str) -> Option<Self> {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+!".contains(&byte);
        if file.len() > 250 || !file.bytes().all(sound) || file.starts_with('.') {
            return None;
        }
        let parts: Vec<&str> = file.strip_suffix(".whl")?.split('-').collect();
        let (build, [python, abi, platform]) = match parts[..] {
            [_, _, python, abi, platform] => (0, [python, abi, platform]),
            [_, _, build, python, abi, platform] => {
                let end = build
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(build.len());
                (build[..end].parse().ok()?, [python, abi, platform])
            }
            _ => return None,
        };
        Some(Self {
            project: parts[0],
            version: pep440_rs::Version::from_str(parts[1]).ok()?,
            build,
            python,
            abi,
            platform,
        })
    }
}

/// How well a wheel suits: greater is better. Comparable only between wheels for the same interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fit {
    python: (u8, u32),
    platform: (u8, u32, u32),
    build: u64,
}

impl Tags {
    /// How well `wheel` suits; `None` if it can't be used.
    #[must_use]
    pub fn fit(&self, wheel: &WheelName<'_>) -> Option<Fit> {
        // Each of the three parts may list several tags; the wheel works with any of them.
        let platform = wheel
            .platform
            .split('.')
            .filter_map(|tag| self.platform(tag))
            .max()?;
        let pythons = wheel.python.split('.');
        let python = pythons
            .flat_map(|python| wheel.abi.split('.').map(move |abi| (python, abi)))
            .filter_map(|(python, abi)| self.python(python, abi))
            .max()?;
        Some(Fit {
            python,
            platform,
            build: wheel.build,
        })
    }

    fn python(&self, python: &str, abi: &str) -> Option<(u8, u32)> {
        if let Some(of) = python.strip_prefix("cp3") {
            let of = number(of)?;
            return match abi {
                _ if abi == self.abi && of == self.minor => Some((5, 0)),
                // The stable ABI exists since 3.2; free-threaded builds have another.
                "abi3" if (2..=self.minor).contains(&of) && !self.abi.ends_with('t') => {
                    Some((4, of))
                }
                "none" if of == self.minor => Some((3, 0)),
                _ => None,
            };
        }
        let of = python.strip_prefix("py3").filter(|_| abi == "none")?;
        match of {
            "" => Some((2, 0)),
            _ => number(of).filter(|of| *of <= self.minor).map(|of| (1, of)),
        }
    }

    fn platform(&self, tag: &str) -> Option<(u8, u32, u32)> {
        if tag == "any" {
            return Some((0, 0, 0));
        }
        let tag = tag.strip_suffix(self.machine.as_str())?.strip_suffix('_')?;
        let since = |name: &str| match name {
            "manylinux1" => Some((2, 5)),
            "manylinux2010" => Some((2, 12)),
            "manylinux2014" => Some((2, 17)),
            _ => version(name.strip_prefix("manylinux_")?),
        };
        let (since, have) = match self.libc? {
            _ if tag == "linux" => return Some((1, 0, 0)),
            Libc::Glibc(major, minor) => (since(tag)?, (major, minor)),
            Libc::Musl(major, minor) => (version(tag.strip_prefix("musllinux_")?)?, (major, minor)),
        };
        // Within one major version a C library stays backward compatible.
        (since.0 == have.0 && since.1 <= have.1).then_some((2, since.0, since.1))
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('_')?;
    Some((number(major)?, number(minor)?))
}

/// Parses digits only: `parse` alone would accept a sign.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
