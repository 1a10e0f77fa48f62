//! WHIP (RFC 9725) and WHEP row by row, over TCP, as the letter has it (`--strict-etags`) and as most clients need it.
//!
//! Each row is a function; `rows!` makes a test of it in either mode. They speak to the real server with its media threads. What only a
//! server in some other state answers (full, closing) is asked of the fake one.

mod ground;
mod patches;
mod statuses;
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
        delete_is_200_whatever_if_match_says_and_then_404
        the_endpoint_and_a_session_can_be_asked_for
        options_tell_what_is_taken_and_need_no_token
        sessions_cannot_be_guessed;
    whep:
        an_offer_is_201_and_the_answer_sends
        without_a_publisher_the_viewer_waits
        the_endpoint_says_its_type
        a_codec_that_the_viewer_lacks_is_422_with_both_lists;
    patches:
        candidates_of_the_current_ice_session_are_204_without_body_and_tag
        a_missing_tag_is_428_unless_the_fragment_says_which_ice_session
        a_stale_tag_is_412
        weak_tags_and_lists_are_compared_strongly
        candidates_that_cannot_be_resolved_are_ignored
        a_restart_is_200_with_our_new_side_and_a_new_tag
        any_tag_with_the_current_name_is_trickle
        a_restart_that_fails_keeps_the_old_ice_session
        restarts_have_a_pace;
    statuses:
        a_wrong_type_is_415_with_the_right_one
        a_body_over_the_cap_is_413
        sdp_that_cannot_be_read_is_400
        sdp_that_cannot_be_used_is_422_and_names_both_codec_lists
        an_unknown_session_is_404
        publishing_over_somebody_else_is_409
        an_unknown_method_is_405_with_those_there_are
        a_full_server_is_503_with_a_time_to_come_back
        a_crowd_of_one_address_is_429_with_a_time_to_come_back;
}
