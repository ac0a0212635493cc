import CMicroHTTPD
import CMicroHTTPDOverrides
import Glibc
import Logging

/// Everything that libmicrohttpd and pthreads call, and every reference that travels through C as a `void *`. Nothing else in the package
/// holds a C function value or an `Unmanaged`.
///
/// | through C | reference | ends |
/// |---|---|---|
/// | context of the daemon: `Reception` | unretained | `Daemon` keeps it until `MHD_stop_daemon` has returned |
/// | socket context: `Connection` | +1 at STARTED | released at CLOSED |
/// | slot of the request: `Exchange` | +1 in the first call of the access handler | released in request-completed |
/// | content reader: `ReadBody` | +1 when the response is made | released by its free callback |
/// | body in memory: `KeptBytes` | +1 when the response is made | released by its free callback |
enum Callbacks {
    static func startDaemon(_ limits: cmhd_limits, reception: Reception) -> OpaquePointer? {
        var limits = limits
        var callbacks = cmhd_callbacks(
            access: { Callbacks.access($0, $1, $2, $3, $4, $5, $6, $7) },
            completed: { Callbacks.completed($0, $1, $2, $3) },
            connection: { Callbacks.connection($0, $1, $2, $3) },
            target: { Callbacks.target($1, $2) },
            unescape: { _, _, text in text.map { strlen($0) } ?? 0 },  // `RequestTarget` does it
            log: { Callbacks.log($0, $1, $2) },
            context: Unmanaged.passUnretained(reception).toOpaque()
        )
        cmhd_replace_answers { Callbacks.replacement($0, $1) }
        return cmhd_start_daemon(&limits, &callbacks)
    }

    // MARK: Daemon

    /// A connection was accepted, or is about to be closed and freed.
    private static func connection(
        _ context: UnsafeMutableRawPointer?,
        _ raw: OpaquePointer?,
        _ slot: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
        _ code: MHD_ConnectionNotificationCode
    ) {
        guard let context, let raw, let slot else { return }
        let reception = Unmanaged<Reception>.fromOpaque(context).takeUnretainedValue()
        switch code {
        case .CONNECTION_NOTIFY_STARTED: slot.pointee = Unmanaged.passRetained(reception.opened(ConnectionHandle(raw: raw))).toOpaque()
        case .CONNECTION_NOTIFY_CLOSED:
            guard let opaque = slot.pointee else { return }
            slot.pointee = nil
            reception.closed(Unmanaged<Connection>.fromOpaque(opaque).takeRetainedValue())
        }
    }

    /// A request line was read, and the library is about to take its query apart, at the cost of 64 bytes of the memory of the connection for
    /// each parameter. "The pointer is only valid for the duration of the call" (microhttpd.h); the bytes are those of the read buffer.
    private static func target(_ text: UnsafePointer<CChar>?, _ raw: OpaquePointer?) -> UnsafeMutableRawPointer? {
        guard let text, let raw, let opaque = cmhd_socket_context(raw) else { return nil }
        let bytes = UnsafeRawBufferPointer(start: text, count: strlen(text))
        Unmanaged<Connection>.fromOpaque(opaque).takeUnretainedValue().targetReceived(Array(bytes))
        if let mark = bytes.firstIndex(of: UInt8(ascii: "?")) { UnsafeMutablePointer(mutating: text)[mark + 1] = 0 }
        return nil
    }

    /// The library has an answer of its own.
    private static func replacement(_ raw: OpaquePointer?, _ status: UnsafeMutablePointer<UInt32>?) -> OpaquePointer? {
        guard let raw, let status, let opaque = cmhd_socket_context(raw) else { return nil }
        let response = Unmanaged<Connection>.fromOpaque(opaque).takeUnretainedValue().refusal(Int(status.pointee))
        guard case .bytes(let bytes) = response.body, let handle = ResponseHandle.bytes(bytes) else { return nil }
        handle.add(response.headers)
        status.pointee = UInt32(response.status)
        return handle.release()
    }

    /// Called with the head of a request, with every part of its body, when it is complete, and again after each resumption.
    private static func access(
        _ context: UnsafeMutableRawPointer?,
        _ raw: OpaquePointer?,
        _ path: UnsafePointer<CChar>?,
        _ method: UnsafePointer<CChar>?,
        _ version: UnsafePointer<CChar>?,
        _ data: UnsafePointer<CChar>?,
        _ size: UnsafeMutablePointer<Int>?,
        _ slot: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
    ) -> MHD_Result {
        guard let context, let raw, path != nil, let method, let version, let size, let slot else { return .NO }
        if let opaque = slot.pointee {
            let exchange = Unmanaged<Exchange>.fromOpaque(opaque).takeUnretainedValue()
            guard size.pointee > 0 else { return exchange.proceed() ? .YES : .NO }
            switch exchange.bodyReceived(UnsafeRawBufferPointer(start: data, count: size.pointee)) {
            case .taken:
                size.pointee = 0
                return .YES
            case .left: return .YES
            case .close: return .NO
            }
        }
        guard let opaque = cmhd_socket_context(raw) else { return .NO }
        let connection = Unmanaged<Connection>.fromOpaque(opaque).takeUnretainedValue()
        let reception = Unmanaged<Reception>.fromOpaque(context).takeUnretainedValue()
        let (headers, isIntact) = headers(of: raw, from: method, behind: version)
        let limit = reception.configuration.maximumHeadSize
        let failure: HTTPServerFailure? =
            if !isIntact {
                .malformed("A line of the head begins with a blank, or there is a NUL in it. Each header field has to be on one line (RFC 9112, section 5.2).")
            } else if cmhd_head_size(raw) > limit || headers.count > reception.configuration.maximumFieldCount {
                .headTooLarge(limit: limit)
            } else {
                nil
            }
        let head = RequestHead(
            method: field(method, strlen(method)),
            target: connection.takeTarget(),
            version: String(cString: version),
            headers: headers,
            failure: failure
        )
        let exchange = reception.begin(head, on: connection)
        slot.pointee = Unmanaged.passRetained(exchange).toOpaque()
        return exchange.headReceived() ? .YES : .NO
    }

    private static func completed(
        _ context: UnsafeMutableRawPointer?,
        _ raw: OpaquePointer?,
        _ slot: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
        _ code: MHD_RequestTerminationCode
    ) {
        guard let context, let opaque = slot?.pointee else { return }
        slot?.pointee = nil
        let reception = Unmanaged<Reception>.fromOpaque(context).takeUnretainedValue()
        let exchange = Unmanaged<Exchange>.fromOpaque(opaque).takeRetainedValue()
        let end: BodyEnd =
            if code == .REQUEST_TERMINATED_COMPLETED_OK {
                .completed
            } else if code == .REQUEST_TERMINATED_DAEMON_SHUTDOWN {
                .stopped
            } else {
                .disconnected
            }
        reception.end(exchange, end, isShort: code == .REQUEST_TERMINATED_CLIENT_ABORT)
    }

    private static func log(_ context: UnsafeMutableRawPointer?, _ format: UnsafePointer<CChar>?, _ arguments: CVaListPointer?) {
        guard let context, let format, let arguments else { return }
        let reception = Unmanaged<Reception>.fromOpaque(context).takeUnretainedValue()
        guard reception.logger.logLevel <= .debug else { return }
        let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { text in
            vsnprintf(text.baseAddress!, text.count, format, arguments)
            return String(cString: text.baseAddress!)
        }
        reception.log(text)
    }

    // MARK: Request

    /// - Returns: the fields, and whether they are those that the client sent, see `HeadLayout`.
    private static func headers(
        of raw: OpaquePointer, from method: UnsafePointer<CChar>, behind version: UnsafePointer<CChar>
    ) -> (HTTPHeaders, isIntact: Bool) {
        var fields = (headers: HTTPHeaders(), layout: HeadLayout(behind: version, strlen(version)))
        fields.headers.reserveCapacity(8)
        withUnsafeMutablePointer(to: &fields) { fields in
            _ = MHD_get_connection_values_n(
                raw, .HEADER_KIND,
                { target, _, name, nameSize, value, valueSize in
                    let fields = target!.assumingMemoryBound(to: (headers: HTTPHeaders, layout: HeadLayout).self)
                    fields.pointee.headers.add(name: Callbacks.field(name, nameSize), value: Callbacks.field(value, Callbacks.trimmedSize(value, valueSize)))
                    fields.pointee.layout.follow(name: name, nameSize, value: value, valueSize)
                    return .YES
                },
                fields
            )
        }
        fields.layout.finish(before: UnsafeRawPointer(method) + cmhd_head_size(raw))
        return (fields.headers, fields.layout.isIntact)
    }

    /// Without the blanks behind a value, which are no part of it (RFC 9110 section 5.5); libmicrohttpd leaves out only those in front.
    private static func trimmedSize(_ value: UnsafePointer<CChar>?, _ size: Int) -> Int {
        guard let value else { return 0 }
        var size = size
        while size > 0, value[size - 1] == 0x20 || value[size - 1] == 0x09 { size -= 1 }
        return size
    }

    private static func string(_ text: UnsafePointer<CChar>?, _ size: Int) -> String {
        String(decoding: UnsafeRawBufferPointer(start: text, count: text == nil ? 0 : size), as: UTF8.self)
    }

    /// What is US-ASCII by rights (RFC 9110 section 5.5) is taken for ISO-8859-1, as the Fetch standard does: no text of that has marks, with
    /// which one letter can be as long as the head, and comparing letters takes the square of that.
    private static func field(_ text: UnsafePointer<CChar>?, _ size: Int) -> String {
        let bytes = UnsafeRawBufferPointer(start: text, count: text == nil ? 0 : size)
        guard bytes.contains(where: { $0 >= 0x80 }) else { return String(decoding: bytes, as: UTF8.self) }
        return String(String.UnicodeScalarView(bytes.map { Unicode.Scalar($0) }))
    }

    // MARK: Response

    /// An array that a response sends from. The storage of a native array neither moves nor changes while a reference to it is held and
    /// nobody mutates it through that reference, so its address may be used for as long as this object lives.
    private final class KeptBytes: Sendable {
        let bytes: [UInt8]
        init(_ bytes: [UInt8]) { self.bytes = bytes }
    }

    static func makeResponse(keeping bytes: [UInt8]) -> ResponseHandle? {
        let kept = Unmanaged.passRetained(KeptBytes(bytes))
        let raw = kept._withUnsafeGuaranteedRef { kept in
            kept.bytes.withUnsafeBytes {
                MHD_create_response_from_buffer_with_free_callback_cls(
                    bytes.count, UnsafeMutableRawPointer(mutating: $0.baseAddress),
                    { Unmanaged<KeptBytes>.fromOpaque($0!).release() },
                    Unmanaged.passUnretained(kept).toOpaque()
                )
            }
        }
        if raw == nil { kept.release() }
        return ResponseHandle(adopting: raw)
    }

    /// An existential does not fit into libmicrohttpd's one pointer.
    private final class ReadBody: Sendable {
        let body: any SourceBody
        init(_ body: any SourceBody) { self.body = body }
    }

    static func makeResponse(reading body: any SourceBody, size: UInt64, block: Int) -> ResponseHandle? {
        let kept = Unmanaged.passRetained(ReadBody(body))
        let raw = MHD_create_response_from_callback(
            size, block,
            { body, _, buffer, capacity in
                Unmanaged<ReadBody>.fromOpaque(body!).takeUnretainedValue().body
                    .read(into: UnsafeMutableRawBufferPointer(start: buffer, count: capacity))
            },
            kept.toOpaque(),
            {
                // Usually the exchange has closed it already; if the response was never queued, nobody has.
                Unmanaged<ReadBody>.fromOpaque($0!).takeRetainedValue().body.close(.disconnected)
            }
        )
        if raw == nil { kept.release() }
        return ResponseHandle(adopting: raw)
    }

    // MARK: Threads

    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// Runs `body` on a thread of its own, for what blocks.
    ///
    /// - Returns: false if the system has no more threads.
    static func startThread(_ body: @escaping @Sendable () -> Void) -> Bool {
        let kept = Unmanaged.passRetained(Body(body))
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            {
                Unmanaged<Body>.fromOpaque($0!).takeRetainedValue().run()
                return nil
            },
            kept.toOpaque()
        )
        guard result == 0 else {
            kept.release()
            return false
        }
        pthread_detach(thread)
        return true
    }
}
