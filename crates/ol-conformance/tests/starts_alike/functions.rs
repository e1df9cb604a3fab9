//! The functions that look: one of each kind, with the same files beside it.

/// What looks; see there.
const PROBE: &str = include_str!("probe.py");

const F: &str = "
import probe

at_import = probe.look()

def f(event):
    return {'import': at_import, 'call': probe.look()}
";

const WSGI: &str = "
import json, probe

at_import = probe.look()

def app(environ, start_response):
    start_response('200 OK', [('content-type', 'application/json')])
    return [json.dumps({'import': at_import, 'call': probe.look()}).encode()]
";

const ASGI: &str = "
import json, probe

at_import = probe.look()

async def app(scope, receive, send):
    if scope['type'] != 'http':
        return
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-type', b'application/json')]})
    await send({'type': 'http.response.body', 'body': json.dumps({'import': at_import, 'call': probe.look()}).encode()})
";

/// It asks for some of what a function may have set for itself.
const SETTINGS: &str = "
environment: {TZ: Europe/Prague, PYTHONPATH: '/handler/own', GREETING: hello}
limits: {procs: 32, mem_mb: 100, scratch_mb: 32}
";

/// Their names, and how each is installed.
pub(crate) fn all() -> [(&'static str, Vec<(&'static str, &'static str)>); 3] {
    [("f", F), ("wsgi", WSGI), ("asgi", ASGI)].map(|(name, source)| {
        let files = vec![
            ("f.py", source),
            ("probe.py", PROBE),
            ("beside.py", ""),
            ("data.txt", "found"),
            ("own/mine.py", ""),
            ("ol.yaml", SETTINGS),
        ];
        (name, files)
    })
}
