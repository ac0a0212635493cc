import MicroHTTP
import OrderedJSON
import Testing

@testable import API
@testable import Jobs

@Suite struct JobListTests {
    private func query(_ pairs: [(String, String)]) throws -> JobQuery {
        try JobQuery(Request(query: pairs.map { (name: $0, value: $1) }))
    }

    @Test func whatIsNotSaidHasADefault() throws {
        let query = try query([("unknown", "x"), ("metadatas", "x")])
        #expect(query.statuses == nil)
        #expect(query.metadata.isEmpty)
        #expect(query.limit == 50)
        #expect(query.before == nil)
    }

    @Test func everythingTogether() throws {
        let cursor = JobCursor(place: 1_700_000_000_000_000).text
        let query = try query([
            ("status", "queued, running"), ("status", "failed"), ("limit", "500"), ("metadata[a]", "1"), ("metadata[b[0]]", "x y"), ("cursor", cursor),
        ])
        #expect(query.statuses == [.queued, .running, .failed])
        #expect(query.metadata == ["a": "1", "b[0]": "x y"])
        #expect(query.limit == 500)
        #expect(query.before == 1_700_000_000_000_000)
    }

    @Test func sixteenFiltersArePossible() throws {
        let filters = (1...17).map { ("metadata[\($0)]", "x") }
        #expect(try query(Array(filters.prefix(16))).metadata.count == 16)
        #expect { try query(filters) } throws: { ($0 as? APIError)?.code == "invalid_metadata_filter" }
    }

    @Test(
        "What cannot be used is refused",
        arguments: [
            ("status", "nope", "invalid_parameter"), ("status", "", "invalid_parameter"), ("status", "queued,", "invalid_parameter"),
            ("status", "Queued", "invalid_parameter"), ("limit", "0", "invalid_parameter"), ("limit", "501", "invalid_parameter"), ("limit", "x", "invalid_parameter"),
            ("metadata", "x", "invalid_metadata_filter"), ("metadata[]", "x", "invalid_metadata_filter"), ("metadata[a", "x", "invalid_metadata_filter"),
            ("metadata[", "x", "invalid_metadata_filter"), ("metadata[a][b]", "x", "invalid_metadata_filter"),
            ("cursor", "", "invalid_cursor"), ("cursor", "x", "invalid_cursor"), ("cursor", "AAAAAAAAAAAAAAAA", "invalid_cursor"),
            ("cursor", "1700000000000000", "invalid_cursor"),
        ])
    func refused(_ name: String, _ value: String, _ code: String) {
        #expect { try query([(name, value)]) } throws: { error in
            (error as? APIError)?.status == 400 && (error as? APIError)?.code == code
        }
    }

    @Test func theSameFilterTwiceIsRefused() {
        #expect { try query([("metadata[a]", "1"), ("metadata[a]", "2")]) } throws: { ($0 as? APIError)?.code == "invalid_metadata_filter" }
    }

    @Test("A cursor comes back as it was, and only so", arguments: [0, 1, 255, 1_700_000_000_000_000, UInt64.max])
    func cursor(_ place: UInt64) throws {
        let text = JobCursor(place: place).text
        #expect(JobCursor(text)?.place == place)
        #expect(text.allSatisfy { $0.isLetter || $0.isNumber || $0 == "-" || $0 == "_" })
        for index in text.indices {
            let other: Character = text[index] == "A" ? "B" : "A"
            #expect(JobCursor(text.replacingCharacters(at: index, with: other)) == nil)
        }
    }
}

extension String {
    fileprivate func replacingCharacters(at index: Index, with character: Character) -> String {
        String(self[..<index]) + String(character) + String(self[self.index(after: index)...])
    }
}
