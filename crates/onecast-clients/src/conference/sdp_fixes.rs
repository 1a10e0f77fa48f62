//! Corrections of the library's SDP answers.

/// Sets each line of an answer to `inactive` where the offer is inactive (RFC 9429 section 5.3.1).
///
/// The library answers `recvonly` to a line that is inactive from the beginning or for the second time: it treats the first `inactive` as
/// the end of the line, and misses a second one after the line was reused.
pub(super) fn mirror_inactive(offer: &str, answer: &str) -> String {
    let offered = sections(offer);
    let idle = |mid: Option<&str>| {
        let line = mid.and_then(|mid| offered.iter().find(|section| mid_of(section) == Some(mid)));
        line.is_some_and(|section| section.contains(&INACTIVE))
    };
    let mut agreed = String::with_capacity(answer.len());
    for section in sections(answer) {
        let is_idle = idle(mid_of(&section));
        for line in section {
            let is_direction = DIRECTIONS.contains(&line);
            agreed.push_str(if is_idle && is_direction { INACTIVE } else { line });
            agreed.push_str("\r\n");
        }
    }
    agreed
}

/// Candidates of an answer that the library misses: it skips inactive lines, and all lines are inactive in the answer to a member that
/// only watches.
pub(super) fn skipped_candidates(answer: &str) -> Vec<String> {
    let sections = sections(answer);
    let candidates = |section: &Vec<&str>| {
        let lines = section.iter().filter_map(|line| line.strip_prefix("a=candidate:"));
        lines.map(|line| format!("candidate:{line}")).collect::<Vec<_>>()
    };
    let seen = |section: &&Vec<&str>| !section.contains(&INACTIVE) && !candidates(section).is_empty();
    if sections.iter().any(|section| seen(&section)) {
        return Vec::new();
    }
    sections.iter().flat_map(candidates).collect()
}

/// The session lines, then the lines of each media section.
fn sections(sdp: &str) -> Vec<Vec<&str>> {
    let mut sections = vec![Vec::new()];
    for line in sdp.lines() {
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push(line);
        }
    }
    sections
}

fn mid_of<'a>(section: &[&'a str]) -> Option<&'a str> {
    section.iter().find_map(|line| line.strip_prefix("a=mid:"))
}

const INACTIVE: &str = "a=inactive";
const DIRECTIONS: [&str; 3] = ["a=sendrecv", "a=sendonly", "a=recvonly"];

#[cfg(test)]
mod tests {
    use super::*;

    fn sdp(lines: &[(&str, &str)]) -> String {
        let lines: Vec<String> = lines
            .iter()
            .map(|(mid, direction)| format!("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:{mid}\r\na={direction}\r\n"))
            .collect();
        format!("v=0\r\n{}", lines.concat())
    }

    #[test]
    fn inactive_lines_are_answered_inactive() {
        let offer = sdp(&[
            ("0", "recvonly"),
            ("s0", "inactive"),
            ("s1", "sendonly"),
            ("s2", "inactive"),
        ]);
        let answer = sdp(&[
            ("0", "sendonly"),
            ("s0", "recvonly"),
            ("s1", "recvonly"),
            ("s2", "inactive"),
        ]);
        let agreed = sdp(&[
            ("0", "sendonly"),
            ("s0", "inactive"),
            ("s1", "recvonly"),
            ("s2", "inactive"),
        ]);
        assert_eq!(mirror_inactive(&offer, &answer), agreed);
    }

    #[test]
    fn nothing_else_is_touched() {
        let answer = "v=0\r\na=group:BUNDLE 0\r\nm=audio 9 X 111\r\na=mid:0\r\na=sendonly\r\n";
        assert_eq!(mirror_inactive("v=0\r\n", answer), answer);
    }

    #[test]
    fn candidates_are_returned_only_when_the_library_misses_all() {
        let answer = |first, second| {
            format!(
                "v=0\r\nm=audio 9 x 0\r\na={first}\r\na=candidate:1 1 udp 5 192.0.2.1 80 typ host\r\nm=video 9 x 0\r\na={second}\r\n"
            )
        };
        let skipped = skipped_candidates(&answer("inactive", "inactive"));
        assert_eq!(skipped, ["candidate:1 1 udp 5 192.0.2.1 80 typ host"]);
        assert_eq!(skipped_candidates(&answer("recvonly", "inactive")), [""; 0]);
        assert_eq!(skipped_candidates(&answer("inactive", "recvonly")).len(), 1);
    }
}
