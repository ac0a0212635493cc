import Crypto
import FoundationEssentials
import Jobs
import MicroHTTP
import OrderedCollections
import OrderedJSON
import Wording

extension JobEndpoints {
    /// `GET /api/v2/jobs`: a page of jobs, newest first.
    func list(_ request: Request, _: PathParameters) async throws -> Response {
        let page = try await api.service.jobs(JobQuery(request))
        let representation = api.representation(for: request)
        var members: JSONObject = [
            "jobs": .array(page.jobs.map { .object(representation.listed($0)) }), "truncated": .bool(page.next != nil),
        ]
        if let next = page.next { members["next_cursor"] = .string(JobCursor(place: next).text) }
        return .json(.object(members))
    }
}

extension JobQuery {
    private static let limits = 1...500
    private static let metadataLimit = 16

    /// What the query parameters `status`, `metadata[name]`, `limit` and `cursor` ask for.
    init(_ request: Request) throws {
        self.init()
        for list in request.query where Name(list.name) == "status" {
            statuses = try (statuses ?? []).union(
                list.value.utf8.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false).map { try JobQuery.status(Substring($0)) })
        }
        for (name, value) in request.query where Name(name) == "metadata" || name.utf8.starts(with: "metadata[".utf8) {
            let key = try JobQuery.metadataKey(name)
            guard metadata.updateValue(value, forKey: Name(key)) == nil else {
                throw APIError.invalidMetadataFilter("The metadata filter '\(key.excerpt)' is given twice; a job has only one value under a name.")
            }
        }
        guard metadata.count <= JobQuery.metadataLimit else {
            throw APIError.invalidMetadataFilter("There are \(metadata.count) metadata filters; \(JobQuery.metadataLimit) are possible.")
        }
        limit = try request.integer("limit", default: 50, in: JobQuery.limits)
        if let text = request.queryValue("cursor") {
            guard let cursor = JobCursor(text) else { throw APIError.invalidCursor(text) }
            before = cursor.place
        }
    }

    private static func status(_ text: Substring) throws -> JobStatus {
        guard let status = JobStatus.allCases.first(where: { $0.rawValue.hasSameBytes(as: text.trimmed) }) else {
            let possible = JobStatus.allCases.map(\.rawValue).joined(separator: ", ")
            throw APIError.invalidParameter(
                "status", "The query parameter status has '\(text.excerpt)'; it must be one or several of: \(possible).")
        }
        return status
    }

    /// `name` out of `metadata[name]`.
    private static func metadataKey(_ parameter: String) throws -> String {
        let key = Substring(parameter.utf8.dropFirst("metadata[".utf8.count).dropLast())
        guard parameter.utf8.last == UInt8(ascii: "]"), !key.isEmpty, key.utf8.firstRange(of: "][".utf8) == nil else {
            throw APIError.invalidMetadataFilter("'\(parameter.excerpt)' is no filter; write metadata[NAME]=VALUE for a member of the jobs' metadata.")
        }
        return String(key)
    }
}

/// A place in the list as callers carry it from page to page.
struct JobCursor: Equatable {
    let place: UInt64

    init(place: UInt64) { self.place = place }

    /// Nil for what `text` did not make.
    init?(_ text: String) {
        guard text.utf8.count == 16 else { return nil }
        let standard = String(text.map { $0 == "-" ? "+" : $0 == "_" ? "/" : $0 })
        guard let data = Data(base64Encoded: standard), data.count == 12 else { return nil }
        place = data.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
        guard self.text == text else { return nil }
    }

    /// Base64url (RFC 4648 section 5) of the place and a checksum.
    var text: String {
        let bytes = withUnsafeBytes(of: place.bigEndian) { Array($0) }
        let checksum = SHA256.hash(data: Array("jobs".utf8) + bytes).prefix(4)
        return String(Data(bytes + checksum).base64EncodedString().map { $0 == "+" ? "-" : $0 == "/" ? "_" : $0 })
    }
}
