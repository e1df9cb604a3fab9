//! Serves a proxy to this host's package index until stdin ends, and then prints what was refused:
//! `cargo run -p ol-packages --example proxy`, and elsewhere `HTTPS_PROXY=http://127.0.0.1:3128 uv pip install …`.

use std::io::{Read as _, Write as _};

use ol_packages::index::{Host, Index, Wanted};
use ol_packages::proxy::{ProxyLimits, ProxyRules, serve};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let index = Index::of(&Host::real(), &Wanted::default())?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{} ({}), reached by way of:",
        index.default, index.origin
    )?;
    for destination in &index.destinations {
        writeln!(out, "  {destination} ({:?})", destination.reach)?;
    }
    writeln!(out, "{:?}", index.certificates)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3128").await?;
    let proxy = serve(listener, ProxyRules::of(&index, ProxyLimits::default()));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    let report = proxy.close();
    writeln!(out, "{} bytes", report.bytes)?;
    for refused in &report.refused {
        writeln!(out, "refused: {refused}")?;
    }
    for trouble in &report.troubles {
        writeln!(out, "trouble: {trouble}")?;
    }
    Ok(())
}
