#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

enum WallClock {
    /// Unix time, as ComfyUI's timestamps.
    static func milliseconds() -> Int {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Int(now.tv_sec) * 1000 + Int(now.tv_nsec) / 1_000_000
    }

    /// Now, like `2026-11-24T00:34:11.744`, local time.
    static func iso() -> String {
        let now = calendar(), milliseconds = milliseconds() % 1000
        return "\(now.tm_year + 1900)-\(two(now.tm_mon + 1))-\(two(now.tm_mday))T\(two(now.tm_hour)):\(two(now.tm_min)):\(two(now.tm_sec))."
            + String(repeating: "0", count: milliseconds < 10 ? 2 : milliseconds < 100 ? 1 : 0) + "\(milliseconds)"
    }

    static func two(_ value: some BinaryInteger) -> String { (value < 10 ? "0" : "") + "\(value)" }

    /// The local calendar date and time.
    static func calendar() -> tm {
        var seconds = time(nil)
        var parts = tm()
        localtime_r(&seconds, &parts)
        return parts
    }
}
