//! Firefox, driven through WebDriver BiDi without a driver process. It ends with the test.

use std::future::Future;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use onecast_testing::find_program;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::process::{each_line, lead_group, signal};

/// One browser with its own profile.
pub(crate) struct Firefox {
    process: Child,
    session: Mutex<Session>,
    _profile: TempDir,
}

/// Runs one command at a time.
struct Session {
    socket: WebSocketStream<TcpStream>,
    commands: u64,
}

impl Firefox {
    pub(crate) async fn launch() -> Firefox {
        let programs = ["firefox-esr", "firefox"];
        let program = programs
            .into_iter()
            .find_map(find_program)
            .expect("Firefox is installed");
        let profile = tempfile::tempdir().unwrap();
        std::fs::write(profile.path().join("user.js"), PREFERENCES).unwrap();
        let mut process = lead_group(&mut Command::new(program))
            .args(["--headless", "--no-remote", "--remote-debugging-port=0", "--profile"])
            .arg(profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (told, url) = oneshot::channel();
        let mut told = Some(told);
        each_line(process.stderr.take().unwrap(), move |line| {
            if let Some((_, url)) = line.split_once("BiDi listening on ")
                && let Some(told) = told.take()
            {
                let _ = told.send(url.trim().to_owned());
            }
        });
        let url = within("the start of Firefox", url).await.unwrap();
        let stream = TcpStream::connect(url.trim_start_matches("ws://")).await.unwrap();
        let (socket, _) = client_async(format!("{url}/session"), stream).await.unwrap();
        let session = Mutex::new(Session { socket, commands: 0 });
        let firefox = Firefox {
            process,
            session,
            _profile: profile,
        };
        firefox.command("session.new", json!({ "capabilities": {} })).await;
        firefox
    }

    /// Opens a page in its own window.
    pub(crate) async fn open(&self, url: &str) -> Page<'_> {
        let window = self
            .command("browsingContext.create", json!({ "type": "window" }))
            .await;
        let context = window["context"].as_str().unwrap().to_owned();
        let to = json!({ "context": context, "url": url, "wait": "complete" });
        self.command("browsingContext.navigate", to).await;
        Page { firefox: self, context }
    }

    async fn command(&self, method: &str, parameters: Value) -> Value {
        let command = async { self.session.lock().await.command(method, parameters).await };
        within(method, command).await
    }
}

impl Session {
    async fn command(&mut self, method: &str, parameters: Value) -> Value {
        self.commands += 1;
        let command = json!({ "id": self.commands, "method": method, "params": parameters });
        self.socket.send(Message::text(command.to_string())).await.unwrap();
        loop {
            let Message::Text(text) = self.socket.next().await.unwrap().unwrap() else {
                continue;
            };
            let mut reply: Value = serde_json::from_str(&text).unwrap();
            if reply["id"] == json!(self.commands) {
                assert_eq!(reply["type"], "success", "{method}: {reply}");
                return reply["result"].take();
            }
        }
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        signal("KILL", &format!("-{}", self.process.id()));
        let _ = self.process.wait();
    }
}

/// One page.
pub(crate) struct Page<'a> {
    firefox: &'a Firefox,
    context: String,
}

impl Page<'_> {
    /// Value of a JavaScript expression, or of what a promise resolves to.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let script = json!({
            "expression": format!("Promise.resolve({expression}).then((value) => JSON.stringify(value ?? null))"),
            "target": { "context": self.context },
            "awaitPromise": true,
            "userActivation": true,
        });
        let found = self.firefox.command("script.evaluate", script).await;
        assert_eq!(found["type"], "success", "{expression}: {found}");
        serde_json::from_str(found["result"]["value"].as_str().unwrap()).unwrap()
    }

    pub(crate) async fn click(&self, css: &str) {
        self.value(&format!("document.querySelector({css:?}).click()")).await;
    }

    /// Pastes text into a field.
    pub(crate) async fn paste(&self, css: &str, text: &str) {
        let field = format!("document.querySelector({css:?})");
        let text = json!(text);
        self.value(&format!(
            "({field}.value = {text}, {field}.dispatchEvent(new Event('input', {{ bubbles: true }})))"
        ))
        .await;
    }

    pub(crate) async fn wait_for_state(&self, state: &str) {
        self.wait_until(&format!("document.documentElement.dataset.state === {state:?}"))
            .await;
    }

    /// Waits until a JavaScript expression is true.
    pub(crate) async fn wait_until(&self, condition: &str) {
        let waiting = async {
            while self.value(condition).await != json!(true) {
                sleep(POLL).await;
            }
        };
        if timeout(WAIT, waiting).await.is_err() {
            let words = self.value("document.body.innerText").await;
            panic!("not within {WAIT:?}: {condition}\nwords on the page:\n{words}");
        }
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(WAIT, future)
        .await
        .unwrap_or_else(|_| panic!("not done within {WAIT:?}: {what}"))
}

/// As for Chromium.
const WAIT: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(150);

/// Pages from disk behave as for users: the preferences that Firefox recommends for tests would let them load modules. Firefox asks for no
/// permissions and fetches nothing in the background.
const PREFERENCES: &str = r#"
user_pref("remote.prefs.recommended", false);
user_pref("media.navigator.permission.disabled", true);
user_pref("media.navigator.streams.fake", true);
user_pref("media.autoplay.default", 0);
user_pref("media.peerconnection.ice.obfuscate_host_addresses", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("network.dns.disablePrefetch", true);
user_pref("network.prefetch-next", false);
user_pref("services.settings.server", "data:,#remote-settings-dummy/v1");
user_pref("browser.safebrowsing.update.enabled", false);
user_pref("browser.region.network.url", "");
user_pref("browser.newtabpage.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("app.normandy.enabled", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
"#;
