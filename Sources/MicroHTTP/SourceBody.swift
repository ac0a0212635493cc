/// A `BodySource` as the body of a response, for its exchange and for the content reader of libmicrohttpd.
///
/// Owned by the response (its free callback releases it) and by the exchange that was answered with it; the source's `wake` holds it
/// weakly, so a source may outlive its connection.
protocol SourceBody: AnyObject, Sendable {
    /// Once, before the response is queued.
    func attach()

    /// The content reader, on the connection's thread, inside libmicrohttpd's lock of the response.
    ///
    /// - Returns: what libmicrohttpd wants: how many bytes there are now, 0 with the connection suspended, or the end.
    func read(into buffer: UnsafeMutableRawBufferPointer) -> Int

    /// Ends the body before its time, on any thread; the source hears of it when the connection has closed.
    func cut(_ reason: BodyEnd)

    /// Passes the wish to end on to the source, once.
    func drain()

    /// The last call; tells the source unless it was told before.
    func close(_ reason: BodyEnd)
}
