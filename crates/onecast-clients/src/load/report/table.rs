//! The report as a table.

use std::fmt::{self, Display};

use super::{
    FrameCounts, LayerCounts, Packets, Percentiles, PublisherCounts, Repairs, Report, ServerUse, ViewerCounts,
};

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ViewerCounts { wanted, verified, .. } = self.viewers;
        let Report { workload, seconds, .. } = self;
        writeln!(
            f,
            "{wanted} viewers, {verified} verified, {workload}, {seconds:.1} s of {}",
            self.whep
        )?;
        self.write_viewers(f)?;
        writeln!(
            f,
            "\nms                              p50       p95       p99       max     count"
        )?;
        let rows = [
            ("POST to answer", self.join_ms.answer),
            ("POST to DTLS", self.join_ms.dtls),
            ("POST to first packet", self.join_ms.first_packet),
            ("POST to first picture", self.join_ms.picture),
            ("added delay", self.delay_ms),
            ("jitter", self.jitter_ms),
            ("NACK to repair", self.repairs.time_ms),
        ];
        for (name, row) in rows.iter().filter(|(_, row)| row.count > 0) {
            let Percentiles {
                p50,
                p95,
                p99,
                max,
                count,
            } = row;
            writeln!(f, "{name:<24}{p50:>10.2}{p95:>10.2}{p99:>10.2}{max:>10.2}{count:>10}")?;
        }
        self.write_media(f)?;
        for path in &self.paths {
            writeln!(f, "{path}")?;
        }
        self.write_machines(f)?;
        for words in self.troubles.iter().chain(&self.broken) {
            writeln!(f, "FAILED      {words}")?;
        }
        Ok(())
    }
}

impl Report {
    fn write_viewers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.viewers;
        write!(f, "viewers     {} joined", counts.joined)?;
        for (count, what) in [
            (counts.refused, "refused"),
            (counts.failed, "without a handshake"),
            (counts.retried, "times asked to retry"),
            (counts.left, "left and were replaced"),
            (counts.ended, "lost their session"),
            (counts.goodbyes_failed, "goodbyes not accepted"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        writeln!(f)
    }

    fn write_media(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Packets {
            delivered,
            lost,
            loss,
            unknown_viewers,
            own_drops,
        } = self.packets;
        write!(
            f,
            "\npackets     {delivered} delivered, {lost} lost ({:.4} %)",
            loss * 100.0
        )?;
        if unknown_viewers > 0 {
            write!(f, ", not known of {unknown_viewers} viewers")?;
        }
        if own_drops > 0 {
            write!(
                f,
                "; {own_drops} more were dropped by this machine (raise net.core.rmem_max)"
            )?;
        }
        let FrameCounts {
            whole,
            freezes,
            frozen_ms,
            freeze_longest_ms,
        } = self.frames;
        write!(f, "\nframes      {whole} whole at verified viewers, {freezes} freezes")?;
        if freezes > 0 {
            write!(f, " of {frozen_ms:.0} ms in all, {freeze_longest_ms:.0} ms the longest")?;
        }
        writeln!(f)?;
        if self.repairs.dropped_on_purpose + self.repairs.time_ms.count > 0 {
            let Repairs {
                dropped_on_purpose,
                time_ms,
            } = self.repairs;
            writeln!(
                f,
                "repairs     {dropped_on_purpose} dropped on purpose, {} repaired",
                time_ms.count
            )?;
        }
        Ok(())
    }

    fn write_layers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.layers.is_empty() {
            return Ok(());
        }
        write!(f, "layers      ")?;
        for (index, layer) in self.layers.iter().enumerate() {
            let LayerCounts {
                rid,
                width,
                height,
                packets,
                ..
            } = layer;
            let before = if index == 0 { "" } else { "; " };
            write!(f, "{before}{} {width}x{height}: ", rid.unwrap_or_default())?;
            match layer.is_sent {
                true => write!(f, "{packets} packets")?,
                false => write!(f, "not sent, because the answer does not accept it")?,
            }
        }
        writeln!(f)
    }

    fn write_machines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(publisher) = self.publisher {
            let PublisherCounts {
                frames,
                keyframes,
                packets,
                keyframe_requests,
                nacked,
                late_ms_max,
            } = publisher;
            write!(
                f,
                "publisher   {packets} packets, {frames} frames, {keyframes} keyframes, sent at most {late_ms_max:.0} ms late; "
            )?;
            writeln!(
                f,
                "the server asked for {keyframe_requests} keyframes and {nacked} packets"
            )?;
        }
        self.write_layers(f)?;
        if let Some(ServerUse {
            cpu_percent,
            ns_per_packet_viewer,
            resident_bytes,
        }) = self.server
        {
            write!(f, "server      {cpu_percent:.1} % of a core")?;
            if let Some(ns) = ns_per_packet_viewer {
                write!(f, ", {ns:.0} ns a packet and viewer")?;
            }
            writeln!(f, ", {:.1} MiB resident", resident_bytes as f64 / f64::from(1 << 20))?;
        }
        match self.load_cpu_percent {
            Some(percent) => writeln!(f, "this load   {percent:.1} % of a core"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_rtc::rtp::Ssrc;

    #[test]
    fn the_table_shows_what_there_is() {
        let mut report = Report {
            whep: "http://h/whep/live".to_owned(),
            ..Report::default()
        };
        report.packets.lost = 17;
        report.join_ms.picture.count = 100;
        report.viewers.refused = 3;
        report.troubles.push("it rained".to_owned());
        let text = report.to_string();
        for shown in [
            "http://h/whep/live",
            "17 lost",
            "POST to first picture",
            "3 refused",
            "FAILED      it rained",
        ] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
        for absent in ["NACK to repair", "publisher", "server", "freezes of", "layers"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
    }

    #[test]
    fn layers_that_the_answer_refuses_are_named() {
        let layer = |rid, is_sent| LayerCounts {
            rid: Some(rid),
            width: 320,
            height: 180,
            ssrc: Ssrc(1),
            is_sent,
            packets: 70,
        };
        let report = Report {
            layers: vec![layer("q", true), layer("h", false)],
            ..Report::default()
        };
        let text = report.to_string();
        let line = "layers      q 320x180: 70 packets; h 320x180: not sent, because the answer does not accept it\n";
        assert!(text.contains(line), "{text}");
    }
}
