package import NIOSSL

/// Which certificates of a ComfyUI, or of a proxy before it, are believed.
package enum ComfyTrust: Sendable {
    /// Those that the system trusts.
    case system
    /// These as well.
    case authorities([NIOSSLCertificate])
    /// All, whoever made them.
    case anybody

    /// The system's, and those of a text in PEM format.
    ///
    /// - Throws: a text that goes on after what names the file.
    package init(pem: [UInt8]) throws(ComfyTrustError) {
        guard let certificates = try? NIOSSLCertificate.fromPEMBytes(pem), !certificates.isEmpty else {
            throw ComfyTrustError("has no certificate that can be read; it must be in PEM format (-----BEGIN CERTIFICATE-----)")
        }
        self = .authorities(certificates)
    }

    package var configuration: TLSConfiguration {
        var configuration = TLSConfiguration.makeClientConfiguration()
        switch self {
        case .system: break
        case .authorities(let certificates): configuration.additionalTrustRoots = [.certificates(certificates)]
        case .anybody: configuration.certificateVerification = .none
        }
        return configuration
    }
}

/// Why a file names no authorities.
package struct ComfyTrustError: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}
