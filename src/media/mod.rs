//! Media in transit: packets, the window of recent ones, the local track and the lanes that leave it. Pure.
