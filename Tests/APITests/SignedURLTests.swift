import Foundation
import MicroHTTP
import Testing

@testable import API
@testable import Jobs

@Suite struct SignedURLTests {
    private let now = Date(timeIntervalSince1970: 1_750_000_000.25)
    private let path = "/api/v2/jobs/6b0c1f8e-7f7e-4f0e-9f0a-0d8e6b1c2d3e/events"

    private func signer(_ tokens: [String] = ["a-token-of-the-test"], lifetime: Int = 3600) throws -> URLSigner {
        try #require(URLSigner(tokens: tokens, lifetime: lifetime))
    }

    /// `expires` and `signature` of a query.
    private func parts(_ query: String) throws -> (expires: String, signature: String) {
        let match = try #require(query.wholeMatch(of: #/expires=(\d+)&signature=([0-9a-f]{64})/#))
        return (String(match.output.1), String(match.output.2))
    }

    @Test func aSignatureIsGoodForItsPathUntilItsEnd() throws {
        let signer = try signer()
        let (expires, signature) = try parts(signer.query(for: path, expires: signer.expiry(at: now)))
        let end = try #require(Double(expires))
        #expect(signer.check(path, expires: expires, signature: signature, at: now) == .valid)
        #expect(signer.check(path, expires: expires, signature: signature, at: Date(timeIntervalSince1970: end - 0.001)) == .valid)
        #expect(signer.check(path, expires: expires, signature: signature, at: Date(timeIntervalSince1970: end)) == .expired)
    }

    @Test func whatWasChangedIsForged() throws {
        let signer = try signer()
        let (expires, signature) = try parts(signer.query(for: path, expires: signer.expiry(at: now)))
        let end = try #require(Int(expires))
        var flipped = Array(signature)
        for index in flipped.indices {
            let digit = flipped[index]
            flipped[index] = digit == "0" ? "1" : "0"
            #expect(signer.check(path, expires: expires, signature: String(flipped), at: now) == .forged)
            flipped[index] = digit
        }
        for other in [path + "/", "/api/v2/jobs/7b0c1f8e-7f7e-4f0e-9f0a-0d8e6b1c2d3e/events", path.replacing("events", with: "previews/1"), "", path + "\n"] {
            #expect(signer.check(other, expires: expires, signature: signature, at: now) == .forged)
        }
        for other in ["\(end + 1)", "\(end - 1)", "0\(end)", "+\(end)", "", "x", "9223372036854775808"] {
            #expect(signer.check(path, expires: other, signature: signature, at: now) == .forged)
        }
        for other in ["", "x", String(signature.dropLast()), signature + "0", signature + "00", String(repeating: "0", count: 64), String(repeating: "０", count: 64)] {
            #expect(signer.check(path, expires: expires, signature: other, at: now) == .forged)
        }
    }

    @Test func theKeyComesFromTheTokensAlone() throws {
        let tokens = ["the-first-of-two-tokens", "the-second-of-two-tokens"]
        let (expires, signature) = try parts(signer(tokens).query(for: path, expires: 1_760_000_000))
        func verdict(_ tokens: [String]) throws -> URLSigner.Verdict { try signer(tokens, lifetime: 7).check(path, expires: expires, signature: signature, at: now) }
        #expect(try verdict(tokens) == .valid)
        #expect(try verdict(tokens.reversed() + tokens) == .valid)
        #expect(try verdict([tokens[0]]) == .forged)
        #expect(try verdict(tokens + ["a-third-token-of-three"]) == .forged)
        #expect(try verdict(["the-first-of-two-tokens-the-second-of-two-tokens"]) == .forged)
        #expect(URLSigner(tokens: [], lifetime: 3600) == nil)
    }

    @Test("A signature lives for the lifetime, and at most a quarter longer", arguments: [1, 2, 3, 4, 7, 60, 3600, 86_400])
    func expiry(_ lifetime: Int) throws {
        let signer = try signer(lifetime: lifetime)
        var ends: Set<Int> = []
        for tenth in 0..<40 {
            let now = self.now.addingTimeInterval(Double(tenth) * Double(lifetime) / 40)
            let left = Double(signer.expiry(at: now)) - now.timeIntervalSince1970
            #expect(left >= Double(lifetime) && left <= Double(lifetime) * 1.25 + 2)
            ends.insert(signer.expiry(at: now))
        }
        // One step of whole seconds more at most than there are quarters, where quarters are that long.
        #expect(ends.count <= lifetime / max(1, lifetime / 4) + 1)
    }

    @Test(
        "All links have the path of --public-url",
        arguments: [
            ("https://h.example/comfy", "https://h.example", "/comfy"), ("https://h.example:8443/a/b.c/", "https://h.example:8443", "/a/b.c"), ("HTTP://H.example//", "HTTP://H.example", ""),
            ("http://[::1]:80", "http://[::1]:80", ""),
        ])
    func publicURLs(_ text: String, _ base: String, _ mount: String) throws {
        let url = try #require(PublicURL(text))
        #expect(url.base == base && url.path == mount)
        let job = try #require(JobID("6b0c1f8e-7f7e-4f0e-9f0a-0d8e6b1c2d3e"))
        let links = Links(Request(query: [("signed_events", "1")], headers: ["Host": "10.0.0.1"]), publicURL: url, signer: try signer())
        #expect(links.job(job) == "\(mount)/api/v2/jobs/\(job)")
        #expect(links.cancel(job) == "\(mount)/api/v2/jobs/\(job)/cancel")
        #expect(links.preview(job, 1).hasPrefix("\(base)\(mount)/api/v2/jobs/\(job)/previews/1?expires="))
        #expect(links.base == base + mount)
        #expect(links.renewed().job(job) == links.job(job))
        // The signature is that of the path without what a proxy takes away.
        let events = links.events(job).split(separator: "?").map(String.init)
        #expect(events.count == 2 && events[0] == mount + path)
        let (expires, signature) = try parts(try #require(events.last))
        #expect(try signer().check(path, expires: expires, signature: signature) == .valid)
    }

    @Test func linksAreSignedWhereATokenCannotBeSent() throws {
        let job = try #require(JobID("6b0c1f8e-7f7e-4f0e-9f0a-0d8e6b1c2d3e"))
        let signer = try signer()
        let links = Links(origin: "http://a.example", signer: signer, signsEvents: true, at: now)
        let expires = signer.expiry(at: now)
        #expect(links.expires == expires)
        #expect(links.events(job) == "\(path)?\(signer.query(for: path, expires: expires))")
        #expect(links.preview(job, 3).hasPrefix("http://a.example/api/v2/jobs/\(job)/previews/3?expires=\(expires)&signature="))
        #expect(links.job(job) == "/api/v2/jobs/\(job)")
        #expect(links.cancel(job) == "/api/v2/jobs/\(job)/cancel")
        #expect(Links(origin: "", signer: signer, at: now).events(job) == path)

        #expect(links.renewed(at: now.addingTimeInterval(1)).events(job) == links.events(job))
        let later = links.renewed(at: now.addingTimeInterval(7200))
        #expect(later.expires == signer.expiry(at: now.addingTimeInterval(7200)))
        #expect(later.events(job).hasPrefix("\(path)?expires=\(signer.expiry(at: now.addingTimeInterval(7200)))"))
    }

    @Test func withoutTokensNothingIsSigned() throws {
        let job = JobID()
        let request = Request(path: "/", query: [("signed_events", "1")], headers: ["Host": "a.example"])
        let links = Links(request, publicURL: nil, signer: nil)
        #expect(links.events(job) == "/api/v2/jobs/\(job)/events")
        #expect(links.preview(job, 1) == "http://a.example/api/v2/jobs/\(job)/previews/1")
        #expect(links.expiry(until: now) == now)
    }

    @Test func aURLEndsWithItsSignatureOrItsContent() throws {
        let links = Links(origin: "", signer: try signer(), at: now)
        let end = Date(timeIntervalSince1970: Double(try #require(links.expires)))
        #expect(links.expiry(until: .distantFuture) == end)
        #expect(links.expiry(until: now) == now)
    }
}
