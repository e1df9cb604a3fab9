//! The request that [`super::Direct::create`] takes, with the original's keys.

use super::DirectError;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Which sandbox to make.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// A directory or a tar.gz on this host; no code if empty.
    #[serde(default)]
    pub(super) code: String,
    /// True for a leaf, which serves; false for a zygote, from which others are forked.
    #[serde(default = "yes")]
    pub(super) leaf: bool,
    /// The number of the zygote to fork from; no parent if empty.
    #[serde(default)]
    parent: Value,
    /// Names of entries of the package store.
    #[serde(default)]
    pub(super) pkgs: Vec<String>,
    #[serde(default = "python")]
    runtime: String,
}

fn yes() -> bool {
    true
}

fn python() -> String {
    "python".to_owned()
}

impl Order {
    /// Parses the body of a request; an empty body asks for a leaf without code.
    ///
    /// # Errors
    /// One sentence that says how to correct the request.
    pub fn parse(body: &[u8]) -> Result<Self, DirectError> {
        let body = if body.is_empty() { b"{}" } else { body };
        // Parsed into a map first: a list would be taken for the fields in their order.
        let fields = serde_json::from_slice::<Map<String, Value>>(body);
        let order = fields.and_then(|fields| serde_json::from_value::<Self>(Value::Object(fields)));
        let order = order.map_err(|error| {
            DirectError::bad(format!(
                "the body is not what /create takes ({error}): send JSON like {{\"code\": \"/a/directory\", \"leaf\": true, \"parent\": \"\", \"pkgs\": []}}"
            ))
        })?;
        match order.runtime.as_str() {
            "python" => {}
            other => {
                return Err(DirectError::bad(format!(
                    "no runtime is called {other:?}: leave it out, or use \"python\""
                )));
            }
        }
        if !order.leaf && !order.code.is_empty() {
            return Err(DirectError::bad(
                "a zygote has no code: leave code empty, or set leaf to true",
            ));
        }
        Ok(order)
    }

    /// The zygote's number as it was written in the request.
    pub(super) fn parent(&self) -> Result<Option<String>, DirectError> {
        match &self.parent {
            Value::Null => Ok(None),
            Value::String(id) => Ok(Some(id.clone()).filter(|id| !id.is_empty())),
            Value::Number(id) => Ok(Some(id.to_string())),
            _ => Err(DirectError::bad(
                "parent is not the number of a sandbox: use what /create answered, or \"\" for none",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_asks_for_a_leaf_of_nobody() {
        let order = Order::parse(b"").expect("nothing is an order too");
        assert!(order.leaf && order.code.is_empty() && order.pkgs.is_empty());
        assert_eq!(order.parent().expect("none"), None);
        for (text, parent) in [
            (r#"{"parent": ""}"#, None),
            (r#"{"parent": "7"}"#, Some("7".to_owned())),
            (r#"{"parent": 7}"#, Some("7".to_owned())),
        ] {
            let order = Order::parse(text.as_bytes()).expect("an order");
            assert_eq!(order.parent().expect("a parent"), parent);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_would_do() {
        for (text, named) in [
            (r#"{"kode": ""}"#, "kode"),
            (r#"[1]"#, "/create takes"),
            (r#"{"leaf": false, "code": "/x"}"#, "leave code empty"),
            (r#"{"runtime": "native"}"#, "python"),
        ] {
            let error = Order::parse(text.as_bytes()).expect_err("refused");
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
