use super::*;
use onecast_testing::Noise;

fn read(hex: &str) -> Result<LayersAllocation, AllocationError> {
    LayersAllocation::read(&bytes(hex))
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks_exact(2).map(byte).collect()
}

/// Stream, spatial layer, bitrates, size.
type Layer<'a> = (usize, usize, &'a [u32], Option<(u16, u16)>);

fn layers(allocation: &LayersAllocation) -> Vec<Layer<'_>> {
    let layers = allocation.layers();
    layers
        .map(|(stream, spatial, layer)| (stream, spatial, layer.kbps(), layer.size()))
        .collect()
}

#[test]
fn one_stream_with_three_temporal_layers() {
    let allocation = read("01 80 50 78 c8 01 01 3f 00 b3 3c").unwrap();
    assert_eq!((allocation.stream(), allocation.streams()), (0, 1));
    assert_eq!(layers(&allocation), [(0, 0, &[80, 120, 200][..], Some((320, 180)))]);
    assert!(allocation.has_sizes());
    assert_eq!(allocation.layer(0, 0).unwrap().frame_rate(), Some(60));
    assert_eq!((allocation.layer(0, 1), allocation.layer(4, 0)), (None, None));
}

#[test]
fn three_streams_of_a_browser() {
    let rates = "a1 a8 3c 5a 96 01 c8 01 ac 02 f4 03 e4 03 d5 05 b9 09";
    let allocation = read(&format!("{rates} 013f00b314 027f016714 04ff02cf14")).unwrap();
    assert_eq!((allocation.stream(), allocation.streams()), (2, 3));
    let expected: [Layer<'_>; 3] = [
        (0, 0, &[60, 90, 150], Some((320, 180))),
        (1, 0, &[200, 300, 500], Some((640, 360))),
        (2, 0, &[484, 725, 1_209], Some((1_280, 720))),
    ];
    assert_eq!(layers(&allocation), expected);
    let without_sizes = read(rates).unwrap();
    assert!(!without_sizes.has_sizes());
    assert_eq!(without_sizes.layer(2, 0).unwrap().kbps(), [484, 725, 1_209]);
    assert_eq!(without_sizes.layer(2, 0).unwrap().frame_rate(), None);
}

#[test]
fn spatial_layers_of_one_stream() {
    let allocation = read("03 a0 4d648e01 e201a602a203").unwrap();
    let expected: [Layer<'_>; 2] = [(0, 0, &[77, 100, 142], None), (0, 1, &[226, 294, 418], None)];
    assert_eq!(layers(&allocation), expected);
}

#[test]
fn a_layer_that_stops_is_missing() {
    let allocation = read("51 a0 3c5a9601 c801ac02f403").unwrap();
    assert_eq!((allocation.stream(), allocation.streams()), (1, 2));
    assert_eq!(layers(&allocation).len(), 2);
    // Streams 0 and 2 of three, with one and two temporal layers.
    let allocation = read("20 1010 10 64 64c801").unwrap();
    let expected: [Layer<'_>; 2] = [(0, 0, &[100], None), (2, 0, &[100, 200], None)];
    assert_eq!(layers(&allocation), expected);
    let nothing = read("00").unwrap();
    assert_eq!((nothing.streams(), nothing.layers().count()), (0, 0));
}

#[test]
fn every_length_but_the_right_ones_is_refused() {
    for (hex, complete) in [
        ("01805078c801013f00b33c", &[6, 11][..]),
        ("03a04d648e01e201a602a203013f00b30e027f01670e", &[12, 22]),
        ("2010101064 64c801", &[8]),
    ] {
        let value = bytes(hex);
        for len in 0..value.len() {
            // The first byte of this one means that nothing is sent, if it is alone.
            let result = LayersAllocation::read(&value[..len]);
            assert_eq!(
                result.is_ok(),
                complete.contains(&len),
                "{hex}, {len} bytes: {result:?}"
            );
        }
        let longer = [&value[..], &[0]].concat();
        assert!(
            matches!(
                LayersAllocation::read(&longer),
                Err(AllocationError::Remainder(1 | 11 | 6))
            ),
            "{hex}"
        );
    }
    assert_eq!(read(""), Err(AllocationError::Truncated));
    assert_eq!(read("01805078c801 013f"), Err(AllocationError::Remainder(2)));
}

#[test]
fn contradictions_and_impossible_values_are_refused() {
    let unknown = AllocationError::UnknownStream { stream: 3, highest: 2 };
    for (hex, error) in [
        ("e1 a8 3c 5a 96 01", unknown),
        ("00 00 00", AllocationError::NoLayers),
        // A layer of stream 1 of one, and of stream 3 of three.
        ("00 11 00 64 64", AllocationError::Padding),
        ("20 1011 00 64 64 64", AllocationError::Padding),
        // Temporal layers of a second spatial layer of one.
        ("01 90 50 78 c8 01", AllocationError::Padding),
        ("01 40 c801 50", AllocationError::FallingBitrate),
        ("01 00 ff ff ff ff 10", AllocationError::Bitrate),
        ("01 00 80 80 80 80 80 00", AllocationError::Bitrate),
        ("01 00 64 ffff 00b3 3c", AllocationError::PictureTooLarge),
    ] {
        assert_eq!(read(hex), Err(error), "{hex}");
    }
    assert_eq!(
        read("01 00 ffffffff0f").unwrap().layer(0, 0).unwrap().kbps(),
        [u32::MAX]
    );
}

#[test]
fn what_is_written_reads_back() {
    let mut noise = Noise::seeded(17);
    for _ in 0..20_000 {
        let allocation = random(&mut noise);
        let value = write(&allocation);
        assert_eq!(LayersAllocation::read(&value), Ok(allocation), "{value:02x?}");
        for len in 2..value.len() {
            let cut = LayersAllocation::read(&value[..len]);
            assert!(cut.is_err() || allocation.has_sizes && !cut.unwrap().has_sizes());
        }
    }
}

#[test]
fn no_bytes_panic() {
    let mut noise = Noise::seeded(18);
    for _ in 0..200_000 {
        let value = noise.bytes(40);
        if let Ok(allocation) = LayersAllocation::read(&value) {
            assert!(allocation.stream() < allocation.streams().max(1));
            assert!(allocation.layers().all(|(stream, _, _)| stream < allocation.streams()));
            assert!(allocation.layers().count() <= 16);
        }
    }
}

fn random(noise: &mut Noise) -> LayersAllocation {
    let streams = 1 + noise.below(4);
    let mut allocation = LayersAllocation {
        stream: noise.below(streams) as u8,
        streams: streams as u8,
        has_sizes: noise.below(2) == 0,
        ..LayersAllocation::default()
    };
    let some = (noise.below(streams), noise.below(4));
    for (stream, spatial) in (0..streams).flat_map(|stream| (0..4).map(move |spatial| (stream, spatial))) {
        if (stream, spatial) != some && noise.below(2) == 0 {
            continue;
        }
        let layer = &mut allocation.layers[stream][spatial];
        layer.temporal_layers = 1 + noise.below(4) as u8;
        let mut kbps = 0;
        for rate in &mut layer.kbps[..usize::from(layer.temporal_layers)] {
            kbps += noise.next() as u32 >> (4 + noise.below(28));
            *rate = kbps;
        }
        if allocation.has_sizes {
            (layer.width, layer.height) = (1 + noise.below(65_535) as u16, 1 + noise.below(65_535) as u16);
            layer.frame_rate = noise.next() as u8;
        }
    }
    allocation
}

fn write(allocation: &LayersAllocation) -> Vec<u8> {
    let mut masks = [0; 4];
    for (stream, spatial, _) in allocation.layers() {
        masks[stream] |= 1_u8 << spatial;
    }
    let used = &masks[..allocation.streams()];
    let head = allocation.stream << 6 | (allocation.streams - 1) << 4;
    let mut value = Vec::new();
    if used.iter().all(|mask| *mask == used[0]) {
        value.push(head | used[0]);
    } else {
        value.push(head);
        value.extend(used.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0)));
    }
    let counts: Vec<u8> = allocation
        .layers()
        .map(|(_, _, layer)| layer.temporal_layers - 1)
        .collect();
    let byte = |four: &[u8]| {
        four.iter()
            .zip([6, 4, 2, 0])
            .map(|(count, shift)| count << shift)
            .sum::<u8>()
    };
    value.extend(counts.chunks(4).map(byte));
    for mut rest in allocation.layers().flat_map(|(_, _, layer)| layer.kbps()).copied() {
        while rest > 0x7f {
            value.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        value.push(rest as u8);
    }
    for (_, _, layer) in allocation.layers() {
        if let (Some((width, height)), Some(rate)) = (layer.size(), layer.frame_rate()) {
            value.extend((width - 1).to_be_bytes());
            value.extend((height - 1).to_be_bytes());
            value.push(rate);
        }
    }
    value
}
