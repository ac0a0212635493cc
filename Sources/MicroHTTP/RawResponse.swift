import CMicroHTTPD
import Glibc

/// A response written past libmicrohttpd, for the one moment in which it takes none: in the middle of an upload.
enum RawResponse {
    /// The whole message, closing the connection. A body that is neither empty nor in memory is left out.
    static func encode(_ response: Response, at time: time_t) -> [UInt8] {
        let body: [UInt8] = if case .bytes(let bytes) = response.body { bytes } else { [] }
        let reason = MHD_get_reason_phrase_for(UInt32(response.status)).map { String(cString: $0) } ?? "Error"
        var head = "HTTP/1.1 \(response.status) \(reason)\r\nDate: \(date(time))\r\nConnection: close\r\n"
        for (name, value) in response.headers.forTheWire where name.lowercased() != "connection" { head += "\(name): \(value)\r\n" }
        head += "Content-Length: \(body.count)\r\n\r\n"
        return Array(head.utf8) + body
    }

    /// Without blocking: what does not fit into the socket's buffer at once is lost with the connection, which is about to be closed.
    static func send(_ response: Response, to descriptor: Int32) {
        let message = encode(response, at: time(nil))
        var sent = 0
        while sent < message.count {
            let count = message.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + sent, message.count - sent, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            sent += count
        }
    }

    /// IMF-fixdate (RFC 9110 section 5.6.7), in English whatever the locale.
    static func date(_ time: time_t) -> String {
        var time = time
        var parts = tm()
        gmtime_r(&time, &parts)
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(days[Int(parts.tm_wday)]), \(two(parts.tm_mday)) \(months[Int(parts.tm_mon)]) \(1900 + parts.tm_year) "
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) GMT"
    }
}
