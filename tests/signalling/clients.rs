//! Requests in the shape in which encoders and players send them.

use super::rig::{OFFER, Rig};

#[tokio::test]
async fn obs_publishes_and_leaves() {
    let rig = Rig::start().await;
    let mut wire = rig.connect().await;
    // libcurl: lower-case names are HTTP/2's, but proxies in between write so too; a bearer token is sent even if it is empty.
    wire.send(format!(
        "POST /whip/live HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\nContent-Type: application/sdp\r\nAuthorization: Bearer \r\n\
         User-Agent: Mozilla/5.0 (OBS-Studio/31.0.0; Linux x86_64; en-US)\r\nContent-Length: {}\r\n\r\n{OFFER}",
        rig.address,
        OFFER.len()
    ))
    .await;
    let created = wire.reply().await.unwrap();
    assert_eq!(created.status, 201);
    let location = created.header("location").unwrap().to_owned();
    assert!(location.starts_with("/whip/live/") && !location.contains(['?', '#']));
    assert!(created.text().starts_with("v=0\r\n"));

    wire.send(format!(
        "DELETE {location} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\nAuthorization: Bearer \r\nUser-Agent: OBS\r\n\r\n",
        rig.address
    ))
    .await;
    assert_eq!(wire.reply().await.unwrap().status, 200);
}

#[tokio::test]
async fn ffmpeg_publishes_and_leaves_on_separate_connections() {
    let rig = Rig::start().await;
    let created = rig
        .raw(format!(
            "POST /whip/live HTTP/1.1\r\nUser-Agent: Lavf/62.3.100\r\nAccept: */*\r\nConnection: close\r\n\
             Host: {}\r\nContent-Length: {}\r\nCache-Control: no-cache\r\nContent-Type: application/sdp\r\n\r\n{OFFER}",
            rig.address,
            OFFER.len()
        ))
        .await;
    assert_eq!(created.status, 201);
    assert!(created.text().starts_with("v=") && created.body.len() < 8_192);
    let location = created.header("location").unwrap();
    let ended = rig
        .raw(format!(
            "DELETE {location} HTTP/1.1\r\nUser-Agent: Lavf/62.3.100\r\nAccept: */*\r\nRange: bytes=0-\r\n\
             Connection: close\r\nHost: {}\r\nIcy-MetaData: 1\r\n\r\n",
            rig.address
        ))
        .await;
    assert_eq!(ended.status, 200);
}

#[tokio::test]
async fn header_names_may_have_any_case_and_order() {
    let rig = Rig::start().await;
    let created = rig
        .raw(format!(
            "POST /whep/live HTTP/1.1\r\ncontent-length: {}\r\nCONTENT-TYPE: application/sdp\r\nhost: x\r\n\r\n{OFFER}",
            OFFER.len()
        ))
        .await;
    assert_eq!(created.status, 201);
}

#[tokio::test]
async fn a_body_may_be_chunked_and_wait_for_100_continue() {
    let rig = Rig::start().await;
    let chunked = rig
        .raw(
            "POST /whip/live HTTP/1.1\r\nHost: h\r\nContent-Type: application/sdp\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nv=0\r\n\r\n3\r\ns=-\r\n0\r\n\r\n",
        )
        .await;
    assert_eq!(chunked.status, 201);
    assert_eq!(rig.fake.last_offer().text, "v=0\r\ns=-");

    let mut wire = rig.connect().await;
    wire.send(format!(
        "POST /whip/live HTTP/1.1\r\nHost: h\r\nContent-Type: application/sdp\r\nExpect: 100-continue\r\n\
         Content-Length: {}\r\n\r\n",
        OFFER.len()
    ))
    .await;
    assert_eq!(wire.reply().await.unwrap().status, 100);
    wire.send(OFFER).await;
    assert_eq!(wire.reply().await.unwrap().status, 201);
}

#[tokio::test]
async fn http_1_0_clients_are_served() {
    let rig = Rig::start().await;
    let mut wire = rig.connect().await;
    wire.send("GET /api/streams HTTP/1.0\r\n\r\n").await;
    assert_eq!(wire.reply().await.unwrap().status, 200);
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn a_connection_carries_several_requests() {
    let rig = Rig::start().await;
    let mut wire = rig.connect().await;
    wire.send("GET /api/streams HTTP/1.1\r\nHost: h\r\n\r\nHEAD /whep/live HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    assert_eq!(wire.reply().await.unwrap().status, 200);
    assert_eq!(wire.reply_to_head().await.unwrap().status, 200);
    wire.send("GET /whip/live HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(wire.reply().await.unwrap().status, 204);
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_understood() {
    let rig = Rig::start().await;
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .http2_only(true)
        .build_http::<String>();
    let request = hyper::Request::post(format!("http://{}/whip/live", rig.address))
        .header("content-type", "application/sdp")
        .body(OFFER.to_owned())
        .unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (201, hyper::Version::HTTP_2)
    );
    assert_eq!(rig.fake.last_offer().local, rig.address);
}

#[tokio::test]
async fn a_client_on_a_dual_stack_listener_is_seen_with_its_ipv4_address() {
    let rig = Rig::with(
        onecast::http::Pages::built_in(),
        onecast::http::HttpLimits::default(),
        "[::]:0",
    )
    .await;
    let mut wire = super::wire::Wire::connect(([127, 0, 0, 1], rig.address.port()).into()).await;
    wire.send(super::wire::request("POST", "/whip/live", &[super::rig::SDP], OFFER))
        .await;
    assert_eq!(wire.reply().await.unwrap().status, 201);
    let offer = rig.fake.last_offer();
    assert_eq!(
        offer.local,
        std::net::SocketAddr::from(([127, 0, 0, 1], rig.address.port()))
    );
    assert!(offer.client.is_ipv4());
}
