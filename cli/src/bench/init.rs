//! `ol bench init`: writes the functions that the benchmarks call.
//!
//! They are written into the registry's folder, as in the original worker, and not uploaded: a hundred thousand uploads, each synced to
//! disk, would take as many seconds. A running worker finds them when they are called.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, value_parser};
use serde_json::json;

use super::workload::{MOST_FUNCTIONS, WorkloadKind};
use crate::admin::Bundle;
use crate::at::{At, facts};
use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// How many functions of each kind: 64 are enough for py64-seq and the like; all of them take half a GiB of disk
    #[arg(long, value_name = "NUMBER", default_value_t = MOST_FUNCTIONS,
        value_parser = value_parser!(u32).range(1..=i64::from(MOST_FUNCTIONS)))]
    functions: u32,
    #[command(flatten)]
    at: At,
}

/// Correlates two columns of a frame that is made once, as in the original worker's benchmark.
const PANDAS: &str = "\
import numpy
import pandas

frame = None


def f(event):
    global frame
    if frame is None:
        frame = pandas.DataFrame(numpy.random.random((1000, 10)))
    left, right = numpy.random.randint(10, size=2)
    return float(frame[left].corr(frame[right]))
";

impl Init {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let (config, _) = self.at.open()?.load(&[], &facts()?)?;
        let folder = config.registry_path()?;
        fs::create_dir_all(&folder)
            .with_context(|| format!("failed to make {}; check that you may", folder.display()))?;
        // All pandas functions have the same bundle, thus it is packed once.
        let pandas = [
            ("f.py", PANDAS),
            ("ol.yaml", "limits: {mem_mb: 128}\n"),
            ("requirements.txt", "numpy\npandas\n"),
        ];
        let pandas = Bundle::of_texts(&pandas).write()?;
        let mut written = 0_u32;
        for number in 0..self.functions {
            let code = format!("def f(event):\n    return {number}\n");
            let python = Bundle::of_texts(&[("f.py", &code)]).write()?;
            for (kind, bundle) in [
                (WorkloadKind::Python, &python),
                (WorkloadKind::Pandas, &pandas),
            ] {
                let name = kind.function(number);
                let put = put(&folder, &name, bundle).with_context(|| {
                    let folder = folder.display();
                    format!("failed to put {name} into {folder}; check its disk and that you may")
                });
                written += u32::from(put?);
            }
            if (number + 1) % 10_000 == 0 {
                out.note(format_args!("{} of each kind", number + 1));
            }
        }
        let (functions, folder) = (self.functions, folder.display());
        let value = json!({"functions": functions, "written": written});
        let text = format!(
            "{functions} functions of each kind are in {folder} ({written} written, the others were there)"
        );
        out.result(&value, text);
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes a bundle in one step; returns whether it changed. An equal one is not written, thus keeps its time: to a worker it is not new.
fn put(folder: &Path, name: &str, bundle: &[u8]) -> io::Result<bool> {
    let path = folder.join(format!("{name}.tar.gz"));
    match fs::read(&path) {
        Ok(there) if there == bundle => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Named like an upload in flight: if this process is killed, the next worker that starts removes the file.
    let staged = folder.join(format!("{name}.tar.gz#{}", std::process::id()));
    fs::write(&staged, bundle)?;
    fs::rename(&staged, &path).inspect_err(|_| drop(fs::remove_file(&staged)))?;
    Ok(true)
}
