import CMicroHTTPD

/// `struct MHD_Response *`: our reference to it. A queued response is kept by libmicrohttpd, so this one may go right after queueing.
struct ResponseHandle: ~Copyable {
    let raw: OpaquePointer

    init?(adopting raw: OpaquePointer?) {
        guard let raw else { return nil }
        self.raw = raw
    }

    deinit {
        MHD_destroy_response(raw)
    }

    /// Gives our reference away.
    consuming func release() -> OpaquePointer {
        let raw = raw
        discard self
        return raw
    }

    /// A body in memory. Small ones are copied with the response; large ones are sent from the array itself, which the response keeps.
    static func bytes(_ bytes: [UInt8]) -> ResponseHandle? {
        if bytes.count > 2048 { return Callbacks.makeResponse(keeping: bytes) }
        let raw = bytes.withUnsafeBytes {
            MHD_create_response_from_buffer(bytes.count, UnsafeMutableRawPointer(mutating: $0.baseAddress), .RESPMEM_MUST_COPY)
        }
        return ResponseHandle(adopting: raw)
    }

    /// A part of a file. The response gets a descriptor of its own, since libmicrohttpd closes it.
    static func file(_ file: FileBody) -> ResponseHandle? {
        let count = file.range.upperBound - file.range.lowerBound
        guard count > 0 else { return bytes([]) }
        guard let descriptor = file.descriptor.duplicate() else { return nil }
        return ResponseHandle(
            adopting: MHD_create_response_from_fd_at_offset64(UInt64(count), descriptor, UInt64(file.range.lowerBound))
        )
    }

    /// - Parameter length: nil for a live body, which needs no buffer for its bytes; others go through one of the response, in large steps.
    static func stream(_ body: any SourceBody, length: Int?) -> ResponseHandle? {
        Callbacks.makeResponse(
            reading: body,
            size: length.map(UInt64.init) ?? cmhd_size_unknown(),
            block: length.map { max(1, min($0, 128 * 1024)) } ?? 1
        )
    }

    /// The head of a response to HEAD whose length nobody knows. Chunked it must not be: 0.9.75 sends the end of a chunked body even
    /// if there is none, which the client would take for the next response. So it says nothing of a length and closes the connection.
    static func headOfStream(_ body: any SourceBody) -> ResponseHandle? {
        guard let handle = Callbacks.makeResponse(reading: body, size: cmhd_size_unknown(), block: 1) else { return nil }
        cmhd_never_chunk(handle.raw)
        return handle
    }

    borrowing func add(_ headers: HTTPHeaders) {
        for (name, value) in headers.forTheWire { add(name: name, value: value) }
    }

    /// - Returns: false for a field that libmicrohttpd refuses (an empty value, for one).
    @discardableResult
    borrowing func add(name: String, value: String) -> Bool {
        MHD_add_response_header(raw, name, value) == .YES
    }
}
