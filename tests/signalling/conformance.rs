//! WHIP (RFC 9725) and WHEP row by row, over TCP, as the letter has it (`--strict-etags`) and as most clients need it.
//!
//! Each row is a function; `rows!` makes a test of it in either mode. They speak to the real server with its media threads. What only a
//! server in some other state answers (full, closing) is asked of the fake one.

mod events;
mod ground;
mod offers;
mod patches;
mod statuses;
mod tokens;
mod whep;
mod whip;

use ground::Ground;

macro_rules! rows {
    ($($room:ident: $($row:ident)*;)*) => {
        mod strict {
            $($(#[tokio::test]
            async fn $row() {
                let ground = super::Ground::start(true).await;
                super::$room::$row(&ground).await;
                ground.stop().await;
            })*)*
        }
        mod lenient {
            $($(#[tokio::test]
            async fn $row() {
                let ground = super::Ground::start(false).await;
                super::$room::$row(&ground).await;
                ground.stop().await;
            })*)*
        }
    };
}

rows! {
    whip:
        an_offer_is_201_with_answer_location_and_tag
        the_answer_receives_on_one_bundled_transport_with_all_candidates
        an_offer_for_both_directions_is_tolerated
        an_offer_for_several_transports_is_422
        delete_is_200_whatever_if_match_says_and_then_404
        the_endpoint_and_a_session_can_be_asked_for
        options_tell_what_is_taken_and_need_no_token
        each_ice_server_has_a_link_line_of_its_own
        sessions_cannot_be_guessed;
    whep:
        an_offer_is_201_and_the_answer_sends
        without_a_publisher_the_viewer_waits
        the_endpoint_says_its_type
        a_codec_that_the_viewer_lacks_is_422_with_both_lists;
    offers:
        an_empty_post_is_406_with_our_offer_location_and_tag
        the_answer_to_it_is_204_and_taken_once
        an_answer_of_no_use_is_refused_and_a_better_one_taken
        only_who_asks_for_an_offer_gets_one;
    events:
        the_answer_links_to_the_event_streams_and_lists_their_events
        an_event_stream_is_201_with_its_location
        an_event_stream_begins_with_the_present_state_and_ends_with_the_session
        invalid_subscriptions_are_refused;
    tokens:
        a_missing_or_wrong_token_is_401_with_a_challenge
        a_token_for_another_stream_is_403
        the_right_token_allows_the_whole_session
        preflights_need_no_token;
    patches:
        candidates_of_the_current_ice_session_are_204_without_body_and_tag
        a_missing_tag_is_428_unless_the_fragment_identifies_the_ice_session
        a_stale_tag_is_412
        weak_tags_and_lists_are_compared_strongly
        candidates_that_cannot_be_resolved_are_ignored
        a_restart_is_200_with_new_server_credentials_and_a_new_tag
        any_tag_with_the_current_ufrag_is_trickle
        a_restart_that_fails_keeps_the_old_ice_session
        ice_restarts_are_rate_limited;
    statuses:
        a_wrong_type_is_415_with_the_right_one
        a_body_over_the_cap_is_413
        malformed_sdp_is_400
        unusable_sdp_is_422_and_names_both_codec_lists
        an_unknown_session_is_404
        an_unknown_stream_is_404_where_names_are_fixed
        publishing_on_an_occupied_stream_is_409
        an_unknown_method_is_405_with_the_allowed_ones
        a_full_server_is_503_with_a_retry_time
        a_draining_server_is_503_with_spread_retry_times
        a_draining_server_with_a_destination_is_307_to_the_same_path
        pages_of_other_origins_can_read_every_answer
        a_crowd_from_one_address_is_429_with_a_retry_time;
}
