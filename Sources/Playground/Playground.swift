/// The files of the page at `/` and the API description, embedded in the binary.
package enum Playground {
    package static let indexHTML = PackageResources.index_html
    package static let script = PackageResources.app_js
    package static let styleSheet = PackageResources.style_css
    package static let openAPI = PackageResources.openapi_yaml

    /// The `Content-Security-Policy` for `/`: what the page's own meta element says, and `frame-ancestors`, which browsers take from a header only.
    package static let contentSecurityPolicy = """
        default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; \
        media-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'
        """
}
