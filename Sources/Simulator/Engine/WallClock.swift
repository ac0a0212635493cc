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

    /// The local calendar date and time.
    static func calendar() -> tm {
        var seconds = time(nil)
        var parts = tm()
        localtime_r(&seconds, &parts)
        return parts
    }
}
