/// A request whose body has arrived whole, or, on a route that streams (see `HTTPServer.init`), one of which only the head has.
package struct Request: Sendable {
    /// As received; methods are case-sensitive (RFC 9110 section 9.1).
    package let method: String
    /// Without the query, percent-decoded once. `%00` stays as it is, and `%2F` becomes an ordinary `/`.
    package var path: String
    /// Percent-decoded with `+` as a space, in order, duplicates kept. A name without `=` has an empty value.
    package var query: [(name: String, value: String)]
    package let headers: HTTPHeaders
    /// Empty on a route that streams.
    package let body: [UInt8]
    /// The body of a request on a route that streams; nil if it is no `multipart/form-data`, which is then not read.
    package let form: FormUpload?
    /// The numeric address of the peer, without port; an IPv4 peer of an IPv6 socket in its IPv4 form.
    package let remoteAddress: String

    package init(
        method: String = "GET",
        path: String = "/",
        query: [(name: String, value: String)] = [],
        headers: HTTPHeaders = [:],
        body: [UInt8] = [],
        form: FormUpload? = nil,
        remoteAddress: String = "127.0.0.1"
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.form = form
        self.remoteAddress = remoteAddress
    }

    /// The first value of the parameter `name` (compared exactly), nil if it is not there.
    package func queryValue(_ name: String) -> String? {
        query.first { $0.name == name }?.value
    }
}
