import Crypto
import Foundation
import NIOSSL

/// A certificate for 127.0.0.1 and localhost, made anew and signed by itself (RFC 5280, written in DER by hand: there is nothing in it but what a
/// client checks).
struct TestCertificate {
    let certificate: NIOSSLCertificate
    let key: NIOSSLPrivateKey

    /// In PEM format.
    let pem: String

    init(names: [String] = ["localhost"], addresses: [[UInt8]] = [[127, 0, 0, 1]]) throws {
        let key = P256.Signing.PrivateKey()
        let ecdsaWithSHA256 = Self.tagged(0x30, Self.tagged(0x06, [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02]))
        let commonName = Self.tagged(0x30, Self.tagged(0x06, [0x55, 0x04, 0x03]) + Self.tagged(0x0C, Array("comfy-bridge test".utf8)))
        let name = Self.tagged(0x30, Self.tagged(0x31, commonName))
        let validity = Self.tagged(0x30, Self.time(addingYears: -1) + Self.time(addingYears: 10))
        let alternatives = Self.tagged(
            0x30, names.flatMap { Self.tagged(0x82, Array($0.utf8)) } + addresses.flatMap { Self.tagged(0x87, $0) })
        let extensions = Self.tagged(
            0xA3, Self.tagged(0x30, Self.tagged(0x30, Self.tagged(0x06, [0x55, 0x1D, 0x11]) + Self.tagged(0x04, alternatives))))
        let serial: [UInt8] = Self.tagged(0x02, [0x01] + (0..<8).map { _ in UInt8.random(in: 0...255) })
        let body = Self.tagged(
            0x30,
            Self.tagged(0xA0, Self.tagged(0x02, [2])) + serial + ecdsaWithSHA256 + name + validity + name
                + Array(key.publicKey.derRepresentation) + extensions)
        let signature = try key.signature(for: body).derRepresentation
        let certificate = Self.tagged(0x30, body + ecdsaWithSHA256 + Self.tagged(0x03, [0] + signature))
        self.certificate = try NIOSSLCertificate(bytes: certificate, format: .der)
        pem = "-----BEGIN CERTIFICATE-----\n\(Data(certificate).base64EncodedString(options: .lineLength64Characters))\n-----END CERTIFICATE-----\n"
        self.key = try NIOSSLPrivateKey(bytes: Array(key.derRepresentation), format: .der)
    }

    func serverContext() throws -> NIOSSLContext {
        try NIOSSLContext(configuration: .makeServerConfiguration(certificateChain: [.certificate(certificate)], privateKey: .privateKey(key)))
    }

    /// Trusts this certificate and nothing else.
    func clientConfiguration() -> TLSConfiguration {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.trustRoots = .certificates([certificate])
        return configuration
    }

    private static func tagged(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        switch content.count {
        case ..<0x80: [tag, UInt8(content.count)] + content
        case ..<0x100: [tag, 0x81, UInt8(content.count)] + content
        default: [tag, 0x82, UInt8(content.count >> 8), UInt8(content.count & 0xFF)] + content
        }
    }

    private static func time(addingYears years: Int) -> [UInt8] {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(secondsFromGMT: 0)
        formatter.dateFormat = "yyyyMMddHHmmss'Z'"
        let date = Date(timeIntervalSinceNow: Double(years) * 365 * 86_400)
        return tagged(0x18, Array(formatter.string(from: date).utf8))
    }
}
