//! ICE restarts: which checks count at which time.

use super::*;

const PWD: &str = "another-password-of-22-chars";

fn ice(number: u32) -> IceSession {
    IceSession {
        number,
        local: IceCredentials {
            ufrag: format!("new{number}").into(),
            pwd: PWD.into(),
        },
        remote: IceCredentials {
            ufrag: "renewed".into(),
            pwd: net::CLIENT_PWD.into(),
        },
    }
}

impl Net {
    fn new_check(&mut self, number: u32, from: u8, nominate: bool) -> Result<Check, StunDrop> {
        self.check_with(&format!("new{number}:renewed"), PWD, path(from), nominate)
    }
}

#[test]
fn both_ice_sessions_are_good_until_the_client_nominates_with_the_new_one() {
    let mut net = connected();
    net.homes = vec![path(5)];
    assert_eq!(
        net.new_check(1, 5, true),
        Err(StunDrop::Username),
        "not before it is there"
    );
    net.server.restart(ice(1));
    net.new_check(1, 5, false).unwrap();
    assert_eq!((net.server.path(), net.server.ice_number()), (Some(path(1)), 0));
    net.check_from(path(1), true).unwrap();
    net.new_check(1, 5, true).unwrap();
    assert_eq!((net.server.path(), net.server.ice_number()), (Some(path(5)), 1));
    assert_eq!(
        net.check_from(path(1), true),
        Err(StunDrop::Username),
        "the old one is over"
    );
    assert_eq!(net.server.path(), Some(path(5)));
    net.assert_connected(Profile::AeadAes128Gcm);
}

#[test]
fn an_unused_restart_ends_nothing() {
    let mut net = connected();
    net.server.restart(ice(1));
    for _ in 0..12 {
        net.advance(Duration::from_secs(5));
        net.check_from(path(1), true).unwrap();
    }
    assert!(!net.server.is_closed());
    assert_eq!((net.server.path(), net.server.ice_number()), (Some(path(1)), 0));
}

#[test]
fn a_restart_from_a_forged_address_changes_nothing() {
    let mut net = connected();
    net.server.restart(ice(1));
    net.new_check(1, 66, true).unwrap();
    assert_eq!((net.server.path(), net.server.ice_number()), (Some(path(1)), 0));
    net.check_from(path(1), true).unwrap();
    net.new_check(1, 1, true).unwrap();
    assert_eq!((net.server.path(), net.server.ice_number()), (Some(path(1)), 1));
}

#[test]
fn a_check_of_the_previous_session_does_not_inherit_a_nomination() {
    let mut net = connected();
    net.server.restart(ice(1));
    net.new_check(1, 5, true).unwrap();
    net.check_from(path(5), false).unwrap();
    assert_eq!((net.server.path(), net.server.ice_number()), (Some(path(1)), 0));
    net.homes = vec![path(5)];
    net.advance(Duration::from_secs(1));
    assert_eq!((net.server.path(), net.server.ice_number()), (Some(path(5)), 1));
}

#[test]
fn a_newer_restart_replaces_a_pending_one() {
    let mut net = connected();
    net.homes = vec![path(5)];
    net.server.restart(ice(1));
    net.server.restart(ice(2));
    assert_eq!(net.new_check(1, 5, true), Err(StunDrop::Username));
    net.new_check(2, 5, true).unwrap();
    net.server.restart(ice(1));
    assert_eq!(
        net.new_check(1, 6, true),
        Err(StunDrop::Username),
        "an old one does not come back"
    );
    assert_eq!((net.server.path(), net.server.ice_number()), (Some(path(5)), 2));
}

#[test]
fn the_new_user_name_needs_the_new_password() {
    let mut net = connected();
    net.server.restart(ice(1));
    let old = credentials().pwd;
    let dropped = net.check_with("new1:renewed", &old, path(6), true);
    assert_eq!(dropped, Err(StunDrop::Integrity));
    let crossed = net.check_with("new1:theirs", PWD, path(6), true);
    assert_eq!(crossed, Err(StunDrop::Username));
    assert!(!net.server.is_checked(path(6)));
    assert_eq!(net.server.ice_number(), 0);
}

#[test]
fn a_client_may_restart_before_its_first_check() {
    for starts in [true, false] {
        let mut net = Net::new(Client::new(vec![GCM], starts));
        net.server.restart(ice(1));
        net.new_check(1, 1, false).unwrap();
        net.new_check(1, 1, true).unwrap();
        net.client.start(net.now);
        net.run(Duration::from_secs(5));
        net.assert_connected(Profile::AeadAes128Gcm);
        assert_eq!(net.server.ice_number(), 1);
    }
}
