//! The pages in `html/`: built into the binary, or read from a directory while you edit them (`--html-dir`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use include_dir::{Dir, File, include_dir};
use tower::ServiceExt as _;
use tower_http::services::ServeDir;

use crate::http::Shared;
use crate::http::problem::{Problem, kinds};

/// Where the pages come from.
#[derive(Debug, Clone)]
pub struct Pages(PageSource);

#[derive(Debug, Clone)]
enum PageSource {
    BuiltIn(Arc<BTreeMap<&'static str, Asset>>),
    Directory(ServeDir),
}

#[derive(Debug)]
struct Asset {
    bytes: &'static [u8],
    media_type: HeaderValue,
    etag: HeaderValue,
    /// `Content-Security-Policy`; `None` for files that are not pages.
    policy: Option<HeaderValue>,
}

impl Pages {
    /// The files that were in `html/` when the binary was built.
    pub fn built_in() -> Pages {
        let mut assets = BTreeMap::new();
        collect(&HTML, &mut assets);
        Pages(PageSource::BuiltIn(Arc::new(assets)))
    }

    /// The files in `directory`, read at each request.
    pub fn directory(directory: PathBuf) -> Pages {
        Pages(PageSource::Directory(ServeDir::new(directory)))
    }

    /// Whether the binary contains a file at this path. Always false for a directory.
    fn built_in_has(&self, path: &str) -> bool {
        matches!(&self.0, PageSource::BuiltIn(assets) if assets.contains_key(file_name(path)))
    }
}

/// Answers every request without a route of its own.
pub(crate) async fn page(State(shared): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    if request.method() != Method::GET && request.method() != Method::HEAD {
        if shared.pages.built_in_has(&path) {
            return not_allowed(&path)
                .header(ALLOW, HeaderValue::from_static("GET, HEAD"))
                .into_response_at(&path);
        }
        return nothing_at(&path).into_response_at(&path);
    }
    let found = match &shared.pages.0 {
        PageSource::BuiltIn(assets) => assets
            .get(file_name(&path))
            .map(|asset| asset.response(request.headers())),
        PageSource::Directory(directory) => from_directory(directory.clone(), request).await,
    };
    found.unwrap_or_else(|| nothing_at(&path).into_response_at(&path))
}

/// The resource at `path` does not support the method. The caller or the router adds `Allow`.
pub(crate) fn not_allowed(path: &str) -> Problem {
    let detail = format!("{} does not support this method", shortened(path));
    Problem::new(kinds::METHOD_NOT_ALLOWED, detail)
}

fn nothing_at(path: &str) -> Problem {
    Problem::new(kinds::NO_SUCH_PATH, format!("there is nothing at {}", shortened(path)))
}

/// Enough of a path to recognize it.
fn shortened(path: &str) -> String {
    if path.len() <= 80 {
        path.to_owned()
    } else {
        path.chars().take(80).chain("...".chars()).collect()
    }
}

impl Asset {
    fn new(file: &'static File<'static>) -> Asset {
        let bytes = file.contents();
        let hash = digest::digest(&digest::SHA256, bytes);
        let etag = format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12]));
        let guessed = mime_guess::from_path(file.path()).first_or_octet_stream();
        Asset {
            bytes,
            media_type: with_charset(guessed.essence_str()),
            etag: HeaderValue::try_from(etag).expect("base64 is visible ASCII"),
            policy: (guessed.essence_str() == "text/html").then(|| policy(file.path())),
        }
    }

    /// Browsers revalidate each time and usually get 304, so they never show the pages of an older server.
    fn response(&self, request: &HeaderMap) -> Response {
        let headers = [
            (ETAG, self.etag.clone()),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        let known = request
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let mut known = known
            .flat_map(|tags| tags.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/"));
        if known.any(|tag| tag == "*" || self.etag == tag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let mut response = (headers, [(CONTENT_TYPE, self.media_type.clone())], self.bytes).into_response();
        if let Some(policy) = &self.policy {
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy.clone());
        }
        response
    }
}

/// The policy of a page: it runs only the scripts beside it, and the worker of its test picture. It may connect to other servers,
/// because draining redirects it there, and because not every browser includes WebSockets in `'self'`. Other sites may embed the
/// viewer, but no page on which one click opens a camera or sends a token.
fn policy(page: &Path) -> HeaderValue {
    if page == Path::new("viewer.html") {
        HeaderValue::from_static(OF_FILES)
    } else {
        HeaderValue::try_from(format!("{OF_FILES}; frame-ancestors 'none'")).expect("the policy is visible ASCII")
    }
}

const OF_FILES: &str = "default-src 'self'; worker-src blob:; connect-src 'self' http: https: ws: wss:; base-uri 'none'; form-action 'self'; object-src 'none'";

/// `None` when there is no such file.
async fn from_directory(directory: ServeDir, request: Request) -> Option<Response> {
    let Ok(response) = directory.oneshot(request).await;
    if response.status() == StatusCode::NOT_FOUND {
        return None;
    }
    let mut response = response.map(Body::new);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(media_type) = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(with_charset)
    {
        headers.insert(CONTENT_TYPE, media_type);
    }
    if let Some(folder) = headers.get(LOCATION).and_then(relative) {
        headers.insert(LOCATION, folder);
    }
    Some(response)
}

/// Makes the redirect to a folder (`/parts` to `/parts/`) relative, because a proxy may serve the pages below a path of its own.
fn relative(location: &HeaderValue) -> Option<HeaderValue> {
    let location = location.to_str().ok()?;
    let path = location.split(['?', '#']).next().unwrap_or_default();
    let folder = path.trim_end_matches('/').rfind('/').map_or(0, |slash| slash + 1);
    HeaderValue::try_from(format!("./{}", &location[folder..])).ok()
}

/// Name of the file at a URL path. The path is neither decoded nor resolved.
fn file_name(path: &str) -> &str {
    match path.trim_start_matches('/') {
        "" => "index.html",
        name => name,
    }
}

fn with_charset(media_type: &str) -> HeaderValue {
    let charset = if media_type.starts_with("text/") && !media_type.contains(';') {
        "; charset=utf-8"
    } else {
        ""
    };
    HeaderValue::try_from(format!("{media_type}{charset}")).expect("media types are visible ASCII")
}

/// Adds all files below `directory` except hidden ones.
fn collect(directory: &'static Dir<'static>, assets: &mut BTreeMap<&'static str, Asset>) {
    for file in directory.files() {
        let hidden = file
            .path()
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if let (Some(path), false) = (file.path().to_str(), hidden) {
            assets.insert(path, Asset::new(file));
        }
    }
    for below in directory.dirs() {
        collect(below, assets);
    }
}

static HTML: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_types_have_a_charset() {
        assert_eq!(with_charset("text/html"), "text/html; charset=utf-8");
        assert_eq!(with_charset("text/css; charset=utf-8"), "text/css; charset=utf-8");
        assert_eq!(with_charset("image/png"), "image/png");
    }

    #[test]
    fn a_redirect_to_a_folder_is_relative() {
        for (location, found) in [
            ("/parts/", "./parts/"),
            ("/a/parts/?x=/y/", "./parts/?x=/y/"),
            ("//parts/", "./parts/"),
        ] {
            assert_eq!(relative(&HeaderValue::from_static(location)).unwrap(), found);
        }
    }

    #[test]
    fn the_front_page_is_index_html() {
        assert_eq!(file_name("/"), "index.html");
        assert_eq!(file_name("/viewer.html"), "viewer.html");
    }

    #[test]
    fn a_page_that_the_browser_has_is_not_sent_again() {
        let asset = Asset {
            bytes: b"page",
            media_type: with_charset("text/html"),
            etag: HeaderValue::from_static("\"abc\""),
            policy: None,
        };
        let asked = |tags: &'static str| {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(tags))]);
            asset.response(&headers).status()
        };
        assert_eq!(asset.response(&HeaderMap::new()).status(), StatusCode::OK);
        assert_eq!(asked("\"abd\""), StatusCode::OK);
        for tags in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            assert_eq!(asked(tags), StatusCode::NOT_MODIFIED, "{tags}");
        }
    }
}
