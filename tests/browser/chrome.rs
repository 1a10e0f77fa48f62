//! Chromium, driven through ChromeDriver. Every process ends with its test.

use std::future::Future;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::process::{each_line, lead_group, signal};

/// One ChromeDriver, which can open any number of browsers.
pub(crate) struct Chrome {
    driver: Child,
    url: String,
}

impl Chrome {
    pub(crate) async fn launch() -> Chrome {
        let (driver, port) = start_driver().await;
        Chrome {
            driver,
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    /// Opens a page in its own browser process: Chromium throttles background pages.
    pub(crate) async fn open(&self, url: &str) -> Page {
        self.open_as(url, Look::default()).await
    }

    /// Opens a page with a given window size and colour scheme.
    pub(crate) async fn open_as(&self, url: &str, look: Look) -> Page {
        let connect = async {
            ClientBuilder::new(HttpConnector::new())
                .capabilities(capabilities(look))
                .connect(&self.url)
                .await
                .unwrap()
        };
        let client = within("the start of a browser", connect).await;
        let page = Page { client };
        page.goto(url).await;
        page
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        // The browsers belong to the driver's process group.
        signal("KILL", &format!("-{}", self.driver.id()));
        let _ = self.driver.wait();
    }
}

/// Window size in CSS pixels and colour scheme.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) size: (u32, u32),
    pub(crate) dark: bool,
}

impl Default for Look {
    fn default() -> Look {
        Look {
            size: (1280, 900),
            dark: false,
        }
    }
}

/// One page in one browser.
pub(crate) struct Page {
    client: Client,
}

impl Page {
    pub(crate) async fn goto(&self, url: &str) {
        within(url, self.client.goto(url)).await.unwrap();
    }

    /// Value of a JavaScript expression.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        within(expression, self.client.execute(&script, Vec::new()))
            .await
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Value that a promise resolves to.
    pub(crate) async fn awaited(&self, expression: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; \
             Promise.resolve({expression}).then(done, (error) => done({{ failed: String(error) }}));"
        );
        let value = within(expression, self.client.execute_async(&script, Vec::new())).await;
        let value = value.unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert!(value.get("failed").is_none(), "{expression}: {value}");
        value
    }

    /// Runs statements.
    pub(crate) async fn run(&self, script: &str, arguments: Vec<Value>) {
        within(script, self.client.execute(script, arguments)).await.unwrap();
    }

    /// Clicks like a user: the element must be visible and not covered.
    pub(crate) async fn click(&self, css: &str) {
        let click = async {
            let element = self.client.wait().for_element(Locator::Css(css)).await.unwrap();
            element
                .click()
                .await
                .unwrap_or_else(|error| panic!("click {css}: {error}"));
        };
        within(css, click).await;
    }

    /// Chooses the option with this value.
    pub(crate) async fn select(&self, css: &str, value: &str) {
        let select = async {
            let element = self.client.find(Locator::Css(css)).await.unwrap();
            element.select_by_value(value).await.unwrap();
        };
        within(css, select).await;
    }

    /// Value of a text field.
    pub(crate) async fn field(&self, css: &str) -> String {
        let value = self.value(&format!("document.querySelector({css:?}).value")).await;
        value.as_str().unwrap().to_owned()
    }

    /// Pastes text into a field.
    pub(crate) async fn paste(&self, css: &str, text: &str) {
        let script = "const field = document.querySelector(arguments[0]); field.focus(); field.value = arguments[1]; \
                      field.dispatchEvent(new Event('input', { bubbles: true }));";
        self.run(script, vec![css.into(), text.into()]).await;
    }

    /// The visible text.
    pub(crate) async fn words(&self) -> String {
        let value = self.value("document.body.innerText").await;
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page has this `data-state`.
    pub(crate) async fn wait_for_state(&self, state: &str) {
        self.wait_until(&format!("document.documentElement.dataset.state === {state:?}"))
            .await;
    }

    /// Waits until the page shows this text.
    pub(crate) async fn wait_for_words(&self, words: &str) {
        self.wait_until(&format!("document.body.innerText.includes({words:?})"))
            .await;
    }

    /// Waits until a JavaScript expression is true, or a promise resolves to true.
    pub(crate) async fn wait_until(&self, condition: &str) {
        let waiting = async {
            while self.awaited(condition).await != json!(true) {
                sleep(POLL).await;
            }
        };
        if timeout(WAIT, waiting).await.is_err() {
            let state = self.value("document.documentElement.dataset.state").await;
            let words = self.words().await;
            panic!("not within {WAIT:?}: {condition}\nstate of the page: {state}\nwords on the page:\n{words}");
        }
    }

    /// Saves a screenshot.
    pub(crate) async fn screenshot(&self, path: &Path) {
        let png = within("a screenshot", self.client.screenshot()).await.unwrap();
        std::fs::write(path, png).unwrap();
    }

    /// Closes the window, which ends the browser.
    pub(crate) async fn close(self) {
        within("the end of a browser", self.client.close()).await.unwrap();
    }
}

/// Starts ChromeDriver on a free port and waits until it prints the port.
async fn start_driver() -> (Child, u16) {
    let mut driver = lead_group(&mut Command::new("chromedriver"))
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (told, port) = oneshot::channel();
    let mut told = Some(told);
    each_line(driver.stdout.take().unwrap(), move |line| {
        let port = line
            .split("started successfully on port ")
            .nth(1)
            .map(|rest| rest.trim_end_matches('.'));
        if let Some(port) = port.and_then(|digits| digits.parse().ok())
            && let Some(told) = told.take()
        {
            let _ = told.send(port);
        }
    });
    let port = within("the start of chromedriver", port).await;
    (driver, port.expect("chromedriver says its port"))
}

fn capabilities(Look { size, dark }: Look) -> Capabilities {
    let mut arguments: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
    arguments.push(format!("--window-size={},{}", size.0, size.1));
    if dark {
        arguments.push("--force-dark-mode".to_owned());
        arguments.push("--blink-settings=preferredColorScheme=0".to_owned());
    }
    // A desktop window cannot be as narrow as a phone, so the driver emulates one.
    let phone = json!({ "deviceMetrics": { "width": size.0, "height": size.1, "pixelRatio": 2.0, "touch": true } });
    let mut options = json!({ "args": arguments });
    if size.0.min(size.1) < 500 {
        options["mobileEmulation"] = phone;
    }
    let capabilities = json!({ "browserName": "chrome", "goog:chromeOptions": options });
    capabilities.as_object().unwrap().clone()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(WAIT, future)
        .await
        .unwrap_or_else(|_| panic!("not done within {WAIT:?}: {what}"))
}

/// Long enough for a busy machine to start several browsers, and for a slow encoder to produce its first frame.
const WAIT: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(150);

const FLAGS: [&str; 16] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    // Self-signed certificates, and host names other than localhost, which browsers trust even without TLS.
    "--ignore-certificate-errors",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
];
