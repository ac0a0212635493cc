/// A request whose body has arrived whole, or one of which only the head has (see `RequestBody`).
package struct Request: Sendable {
    /// As received; methods are case-sensitive (RFC 9110 section 9.1).
    package let method: String
    /// Without the query, percent-decoded once. `%00` and `%2F` stay as they are: a slash is always a separator.
    package var path: String
    /// Percent-decoded with `+` as a space, in order, duplicates kept. A name without `=` has an empty value.
    package var query: [(name: String, value: String)]
    package let headers: HTTPHeaders
    /// Empty unless it is `RequestBody.collected`, and after `releaseBody`.
    package var body: [UInt8] { held.bytes }
    /// A body that is `RequestBody.streamed`; nil if it is no `multipart/form-data`, which is then not read.
    package let form: FormUpload?
    /// The numeric address of the peer, without port; an IPv4 peer of an IPv6 socket in its IPv4 form.
    package let remoteAddress: String
    private let held: HeldBody

    package init(
        method: String = "GET",
        path: String = "/",
        query: [(name: String, value: String)] = [],
        headers: HTTPHeaders = [:],
        body: [UInt8] = [],
        form: FormUpload? = nil,
        remoteAddress: String = "127.0.0.1"
    ) {
        self.init(method: method, path: path, query: query, headers: headers, held: HeldBody(body), form: form, remoteAddress: remoteAddress)
    }

    init(
        method: String, path: String, query: [(name: String, value: String)], headers: HTTPHeaders, held: HeldBody, form: FormUpload?, remoteAddress: String
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.held = held
        self.form = form
        self.remoteAddress = remoteAddress
    }

    /// Lets go of the body, in all copies of the request, for a handler that has read it and goes on for long: its memory is for others then.
    package func releaseBody() {
        held.release()
    }

    /// The first value of the parameter `name` (compared exactly), nil if it is not there.
    package func queryValue(_ name: String) -> String? {
        query.first { $0.name.utf8.elementsEqual(name.utf8) }?.value
    }
}
