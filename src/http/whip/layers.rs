//! Layers of WHEP: what a viewer can choose from, and its choice.
//!
//! Two forms of the list exist. The draft has an array per m-line. Its predecessor, and players of Broadcast Box, have an object under the
//! key `1`, whatever the m-line.

use std::num::NonZeroU32;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http::cors::{ACCEPT_POST, Methods, options};
use crate::http::path_params::SessionPath;
use crate::http::problem::{Problem, kinds};
use crate::http::whip::routes::wrong_type;
use crate::http::{Shared, body};
use onecast_control::layers::{LayerChoice, LayerState, StreamLayers, ViewerLayer};
use onecast_engine::media::LayerReason;

/// How the layers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayersForm {
    /// An array per m-line (draft-ietf-wish-whep-events).
    List,
    /// An object (draft-ietf-wish-whep before that).
    Object,
}

pub(crate) fn routes() -> Router<Shared> {
    let methods = async || {
        (
            [(ACCEPT_POST, JSON)],
            options(Methods("GET, HEAD, POST, OPTIONS")).await,
        )
    };
    let route = post(choose).get(sent).options(methods);
    Router::new().route("/whep/{stream}/{session}/layer", route)
}

/// The `Link` value with the URL where the viewer of the session at `location` chooses.
pub(crate) fn link(location: &str) -> HeaderValue {
    HeaderValue::try_from(format!("<{location}/layer>; rel=\"{RELATION}\"")).expect("paths are visible ASCII")
}

async fn choose(
    State(shared): State<Shared>,
    SessionPath(session): SessionPath,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    if !body::has_type(&headers, JSON) {
        let problem = wrong_type(&headers, JSON).header(ACCEPT_POST, HeaderValue::from_static(JSON));
        return Err(body::refuse(&headers, body, problem).await);
    }
    let text = body::text(&headers, body, shared.limits.body_timeout).await?;
    let choice = read_choice(&text).map_err(|error| Problem::new(kinds::BAD_JSON, error.to_string()))?;
    shared.service.choose_layer(session, &choice)?;
    Ok(StatusCode::OK)
}

async fn sent(State(shared): State<Shared>, SessionPath(session): SessionPath) -> Result<Response, Problem> {
    let layer = shared.service.viewer_layer(session)?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(describe_viewer(&layer))).into_response())
}

/// The fields of a choice that the server knows. A viewer has one video line at most, so `mediaId` says nothing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChoiceBody {
    rid: Option<String>,
    /// The name of `rid` in the older draft.
    encoding_id: Option<String>,
    max_width: Option<NonZeroU32>,
    max_height: Option<NonZeroU32>,
}

fn read_choice(text: &str) -> serde_json::Result<LayerChoice> {
    // An array would be read as the fields in their order.
    let object: Map<String, Value> = serde_json::from_str(text)?;
    let body = ChoiceBody::deserialize(Value::Object(object))?;
    let rid = body.rid.or(body.encoding_id).filter(|rid| !rid.is_empty());
    // No picture is larger than that.
    let pixels = |max: Option<NonZeroU32>| max.and_then(|max| u16::try_from(max.get()).ok());
    Ok(LayerChoice {
        rid: rid.map(String::into_boxed_str),
        max_width: pixels(body.max_width),
        max_height: pixels(body.max_height),
    })
}

/// The data of a `layers` event for a viewer that receives video on the m-line `line`.
pub(crate) fn describe(layers: &StreamLayers, form: LayersForm, line: u8) -> Value {
    match form {
        LayersForm::List => {
            let list: Vec<Value> = layers.iter().map(|layer| describe_layer(layer, "rid")).collect();
            json!({ line.to_string(): list })
        }
        LayersForm::Object => json!({ "1": describe_object(layers), "2": { "layers": [] } }),
    }
}

fn describe_object(layers: &StreamLayers) -> Value {
    let of = |is_live: Option<bool>, name: &str| -> Vec<Value> {
        let wanted = layers
            .iter()
            .filter(|layer| is_live.is_none_or(|live| live == layer.facts.is_live));
        wanted.map(|layer| describe_layer(layer, name)).collect()
    };
    json!({
        "active": of(Some(true), "id"),
        "inactive": of(Some(false), "id"),
        "layers": of(None, "encodingId"),
    })
}

/// `name` is the field with the rid. A layer that is not sent has the rate 0.
fn describe_layer(layer: &LayerState, name: &str) -> Value {
    let LayerState { rid, facts, .. } = layer;
    let rate = if facts.is_live { facts.rate } else { 0 };
    let mut described = json!({ name: rid.as_deref(), "bitrate": rate });
    if let Some((width, height)) = facts.size {
        described["width"] = width.into();
        described["height"] = height.into();
    }
    if facts.is_live && facts.frame_rate > 0 {
        described["frameRate"] = facts.frame_rate.into();
    }
    described
}

/// What a viewer is sent, why, and what it wants.
pub(crate) fn describe_viewer(layer: &ViewerLayer) -> Value {
    let sent = layer.sent.map(|(sent, _)| sent);
    let size = sent.and_then(|sent| sent.facts.size);
    json!({
        "rid": sent.and_then(|sent| sent.rid).as_deref(),
        "width": size.map(|(width, _)| width),
        "height": size.map(|(_, height)| height),
        "reason": layer.sent.map(|(_, reason)| reason_name(reason)),
        "switches": layer.switches,
        "limit": {
            "rid": layer.rid.as_deref(),
            "max_width": layer.limit.max_width,
            "max_height": layer.limit.max_height,
        },
    })
}

fn reason_name(reason: LayerReason) -> &'static str {
    match reason {
        LayerReason::Start => "start",
        LayerReason::Path => "path",
        LayerReason::Recovered => "recovered",
        LayerReason::Gone => "gone",
        LayerReason::Limit => "limit",
    }
}

/// Reads any bytes as a choice.
#[doc(hidden)]
pub fn fuzz_layer_choice(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match read_choice(text) {
        Ok(choice) => {
            let sizes = [choice.max_width, choice.max_height];
            assert!(choice.rid.as_deref() != Some("") && !sizes.contains(&Some(0)));
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
}

const JSON: &str = "application/json";
const RELATION: &str = "urn:ietf:params:whep:ext:core:layer";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_in_the_words_of_both_drafts() {
        let chosen = |rid: Option<&str>, max_width, max_height| LayerChoice {
            rid: rid.map(Into::into),
            max_width,
            max_height,
        };
        for (text, choice) in [
            ("{}", LayerChoice::default()),
            (r#"{"mediaId":"0"}"#, LayerChoice::default()),
            (r#"{"mediaId":"1","rid":"f"}"#, chosen(Some("f"), None, None)),
            (r#"{"mediaId":"1","encodingId":"f"}"#, chosen(Some("f"), None, None)),
            (r#"{"rid":"f","encodingId":"q"}"#, chosen(Some("f"), None, None)),
            (r#"{"encodingId":""}"#, LayerChoice::default()),
            (r#"{"rid":null,"maxTemporalLayerId":1}"#, LayerChoice::default()),
            (
                r#"{"maxWidth":640,"maxHeight":360}"#,
                chosen(None, Some(640), Some(360)),
            ),
            (r#"{"maxHeight":100000}"#, LayerChoice::default()),
        ] {
            assert_eq!(read_choice(text).unwrap(), choice, "{text}");
        }
        for text in [
            "",
            "f",
            "[]",
            r#"["f"]"#,
            r#"{"rid":7}"#,
            r#"{"maxHeight":0}"#,
            r#"{"maxHeight":-1}"#,
            "{",
        ] {
            assert!(read_choice(text).is_err(), "{text}");
        }
    }
}
