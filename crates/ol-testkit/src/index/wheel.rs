//! Wheels made in memory.

use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{Dist, normalised};

/// A wheel of a pure Python package, to which files can be added.
pub fn wheel(name: &str, version: &str) -> Wheel {
    Wheel {
        name: name.to_owned(),
        version: version.to_owned(),
        tag: "py3-none-any".to_owned(),
        requires: Vec::new(),
        more: String::new(),
        files: Vec::new(),
        zeros: None,
    }
}

/// A wheel being put together.
#[derive(Debug, Clone)]
#[must_use]
pub struct Wheel {
    name: String,
    version: String,
    tag: String,
    requires: Vec<String>,
    more: String,
    files: Vec<(String, Vec<u8>, u32)>,
    zeros: Option<(String, u64)>,
}

impl Wheel {
    /// Adds a file. Its name is used unchanged, even with `../`.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.file_with_mode(name, content, 0o100_644)
    }

    /// Adds a file of another type or with another mode: `0o120777` makes a symbolic link to the content.
    pub fn file_with_mode(mut self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> Self {
        self.files
            .push((name.to_owned(), content.as_ref().to_vec(), mode));
        self
    }

    /// Adds this many empty modules `many/mN.py`.
    pub fn many_files(mut self, count: usize) -> Self {
        let files = (0..count).map(|number| (format!("many/m{number}.py"), Vec::new(), 0o100_644));
        self.files.extend(files);
        self
    }

    /// Adds a file of this many MiB of zeros, which take a thousandth of that in the wheel.
    pub fn bomb(mut self, name: &str, mib: u64) -> Self {
        self.zeros = Some((name.to_owned(), mib));
        self
    }

    /// Adds a requirement.
    pub fn requires(mut self, requirement: &str) -> Self {
        self.requires.push(requirement.to_owned());
        self
    }

    /// Adds a line to its metadata, like `Requires-Python: >=3.99`.
    pub fn metadata(mut self, line: &str) -> Self {
        self.more.push_str(line);
        self.more.push('\n');
        self
    }

    /// Sets another tag than `py3-none-any`.
    pub fn tag(mut self, tag: &str) -> Self {
        tag.clone_into(&mut self.tag);
        self
    }

    /// Adds a command that runs `module:function`.
    pub fn command(self, name: &str, target: &str) -> Self {
        let path = format!("{}/entry_points.txt", self.dist_info());
        self.file(&path, format!("[console_scripts]\n{name} = {target}\n"))
    }

    /// Makes the wheel.
    ///
    /// # Panics
    /// Never: it is written to memory.
    #[must_use]
    pub fn build(&self) -> Dist {
        let info = self.dist_info();
        let requires: String = self
            .requires
            .iter()
            .map(|name| format!("Requires-Dist: {name}\n"))
            .collect();
        let metadata = format!(
            "Metadata-Version: 2.1\nName: {}\nVersion: {}\n{requires}{}",
            self.name, self.version, self.more
        );
        let kind = format!(
            "Wheel-Version: 1.0\nGenerator: ol-testkit\nRoot-Is-Purelib: true\nTag: {}\n",
            self.tag
        );
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let mut record = String::new();
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        let mut add = |name: &str, content: &[u8], mode: u32| {
            zip.start_file(name, options.unix_permissions(mode))
                .expect("in memory");
            zip.write_all(content).expect("in memory");
            record.push_str(&format!("{name},,\n"));
        };
        for (name, content, mode) in &self.files {
            add(name, content, *mode);
        }
        add(&format!("{info}/METADATA"), metadata.as_bytes(), 0o100_644);
        add(&format!("{info}/WHEEL"), kind.as_bytes(), 0o100_644);
        if let Some((name, mib)) = &self.zeros {
            zip.start_file(name.as_str(), options.large_file(true))
                .expect("in memory");
            let mib_of_zeros = vec![0; 1 << 20];
            for _ in 0..*mib {
                zip.write_all(&mib_of_zeros).expect("in memory");
            }
            record.push_str(&format!("{name},,\n"));
        }
        record.push_str(&format!("{info}/RECORD,,\n"));
        zip.start_file(format!("{info}/RECORD"), options)
            .expect("in memory");
        zip.write_all(record.as_bytes()).expect("in memory");
        Dist {
            project: normalised(&self.name),
            filename: format!("{}-{}-{}.whl", self.escaped(), self.version, self.tag),
            bytes: zip.finish().expect("in memory").into_inner(),
        }
    }

    fn dist_info(&self) -> String {
        format!("{}-{}.dist-info", self.escaped(), self.version)
    }

    fn escaped(&self) -> String {
        normalised(&self.name).replace('-', "_")
    }
}
