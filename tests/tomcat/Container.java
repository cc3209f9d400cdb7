import java.io.IOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.servlet.ServletException;
import javax.servlet.http.Cookie;
import javax.servlet.http.HttpServlet;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.connector.Request;
import org.apache.catalina.connector.Response;
import org.apache.catalina.startup.Tomcat;
import org.apache.catalina.valves.ValveBase;

/**
 * A Tomcat 9 whose web applications stand where those of the identity server stand, and say what reached them: the
 * application, the path within it, the tenant and organization that were read from the target, the risk headers, the
 * parameters as getParameter gives them. Before them stand three valves that do what the identity server's own do to a
 * request: the encoding is UTF-8, some spellings are refused, tenant and organization prefixes are taken off.
 *
 * <p>Prints the ports of its two connectors on one line and serves until its standard input ends. The second connector
 * is what a client without a gateway would reach; both lead to the same applications.
 */
public final class Container {
    private static final List<String> APPLICATIONS = List.of(
        "/oauth2", "/scim2", "/api", "/myaccount", "/console", "/authenticationendpoint",
        "/accountrecoveryendpoint");
    private static final List<String> SERVLETS = List.of(
        "/commonauth", "/samlsso", "/samlartresolve", "/passivests", "/oidc/", "/logincontext",
        "/.well-known/");
    private static final String TENANT = "container.tenant";
    private static final String ORGANIZATION = "container.organization";

    private Container() {}

    public static void main(String[] arguments) throws Exception {
        java.util.logging.Logger.getLogger("").setLevel(java.util.logging.Level.OFF);
        Path base = Files.createTempDirectory("container");
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(base.toString());
        Connector front = connector();
        Connector direct = connector();
        tomcat.setConnector(front);
        tomcat.getService().addConnector(direct);
        tomcat.getEngine().getPipeline().addValve(new EncodingValve());
        tomcat.getEngine().getPipeline().addValve(new RefusingValve());
        tomcat.getHost().getPipeline().addValve(new PrefixValve());
        application(tomcat, "", base);
        for (String path : APPLICATIONS) {
            application(tomcat, path, base);
        }
        tomcat.start();
        System.out.println(front.getLocalPort() + " " + direct.getLocalPort());
        System.out.flush();
        while (System.in.read() >= 0) {
            // Whoever started this one ends it by closing the pipe, or by ending.
        }
        tomcat.stop();
        System.exit(0);
    }

    private static Connector connector() {
        Connector connector = new Connector("org.apache.coyote.http11.Http11NioProtocol");
        connector.setPort(0);
        connector.setURIEncoding("UTF-8");
        connector.setProperty("address", "127.0.0.1");
        connector.setProperty("maxKeepAliveRequests", "-1");
        connector.setProperty("maxThreads", "32");
        return connector;
    }

    private static void application(Tomcat tomcat, String path, Path base) {
        Context context = tomcat.addContext(path, base.toString());
        context.setCrossContext(true);
        Tomcat.addServlet(context, "echo", new Echo());
        context.addServletMappingDecoded("/*", "echo");
    }

    /** Says what has arrived, as one line of JSON. */
    private static final class Echo extends HttpServlet {
        private static final long serialVersionUID = 1L;

        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response)
            throws IOException {
            StringBuilder json = new StringBuilder("{");
            member(json, "context", request.getContextPath());
            member(json, "path", request.getPathInfo());
            member(json, "method", request.getMethod());
            member(json, "tenant", (String) request.getAttribute(TENANT));
            member(json, "organization", (String) request.getAttribute(ORGANIZATION));
            member(json, "session", session(request));
            json.append("\"risk\":{");
            for (String name : Collections.list(request.getHeaderNames())) {
                if (name.startsWith("x-risk-")) {
                    member(json, name, request.getHeader(name));
                }
            }
            end(json);
            json.append(",\"parameters\":{");
            for (String name : Collections.list(request.getParameterNames())) {
                member(json, name, request.getParameter(name));
            }
            end(json);
            json.append('}');
            byte[] body = json.toString().getBytes(StandardCharsets.UTF_8);
            response.setContentType("application/json");
            response.setContentLength(body.length);
            response.getOutputStream().write(body);
        }
    }

    /** The first cookie of this name, as the identity server looks for it. */
    private static String session(HttpServletRequest request) {
        if (request.getCookies() != null) {
            for (Cookie cookie : request.getCookies()) {
                if (cookie.getName().equals("commonAuthId")) {
                    return cookie.getValue();
                }
            }
        }
        return null;
    }

    /** RequestEncodingValve: whoever names no charset means UTF-8. */
    private static final class EncodingValve extends ValveBase {
        @Override
        public void invoke(Request request, Response response) throws IOException, ServletException {
            if (request.getCharacterEncoding() == null) {
                request.setCharacterEncoding("UTF-8");
            }
            getNext().invoke(request, response);
        }
    }

    /** AuthenticationValve, as far as it looks at the spelling of the target. */
    private static final class RefusingValve extends ValveBase {
        private static final Pattern REFUSED = Pattern.compile(
            "(.*)/((\\.+)|(.*;+.*)|%2e.*)/(.*)", Pattern.CASE_INSENSITIVE);

        @Override
        public void invoke(Request request, Response response) throws IOException, ServletException {
            String raw = request.getRequestURI();
            // Without parameters, decoded once, dots resolved.
            String decoded = request.getDecodedRequestURI();
            if (decoded == null || response.getStatus() >= 400) {
                // Tomcat itself has refused it; what it calls now only writes the log.
                refuse(response, 400);
                return;
            }
            if (REFUSED.matcher(raw).matches()) {
                refuse(response, 401);
                return;
            }
            if (decoded.contains("%") || decoded.contains("+")) {
                refuse(response, 400);
                return;
            }
            if (REFUSED.matcher(decoded).matches()) {
                refuse(response, 401);
                return;
            }
            try {
                new URI(decoded);
            } catch (URISyntaxException error) {
                refuse(response, 400);
                return;
            }
            getNext().invoke(request, response);
        }
    }

    /** TenantContextRewriteValve and OrganizationContextRewriteValve: regular expressions on the raw target. */
    private static final class PrefixValve extends ValveBase {
        @Override
        public void invoke(Request request, Response response) throws IOException, ServletException {
            String raw = request.getRequestURI();
            if (raw.startsWith("/o/")) {
                raw = "/t/carbon.super" + raw;
            }
            Matcher prefix = Pattern.compile("^/t/([^/]+)(/o/[a-f0-9\\-]+|/o)?(/.*)$").matcher(raw);
            String target = null;
            if (prefix.matches()) {
                String organization = prefix.group(2);
                boolean isOfToken = "/o".equals(organization);
                String rest = prefix.group(3);
                for (String application : APPLICATIONS) {
                    if (rest.startsWith(application + "/")) {
                        // The identity server cuts greedily: the last occurrence counts.
                        String tail = raw.replaceAll("/t/.*" + Pattern.quote(application + "/"), "/");
                        target = application + (isOfToken ? "/o" : "") + tail;
                        break;
                    }
                }
                for (String servlet : SERVLETS) {
                    if (target == null && !isOfToken && rest.startsWith(servlet)) {
                        target = servlet + raw.replaceAll("/t/.*" + Pattern.quote(servlet), "");
                    }
                }
                if (target != null) {
                    request.setAttribute(TENANT, prefix.group(1));
                    if (organization != null && !isOfToken) {
                        request.setAttribute(ORGANIZATION, organization.substring(3));
                    }
                }
            }
            if (target == null) {
                getNext().invoke(request, response);
                return;
            }
            forward(request, response, target);
        }

        private void forward(Request request, Response response, String target)
            throws IOException, ServletException {
            String context = "";
            for (String application : APPLICATIONS) {
                if (target.startsWith(application + "/")) {
                    context = application;
                }
            }
            request.getContext()
                .getServletContext()
                .getContext(context.isEmpty() ? "/" : context)
                .getRequestDispatcher(target.substring(context.length()))
                .forward(request, response);
        }
    }

    private static void refuse(Response response, int status) throws IOException {
        response.setStatus(status);
        response.setContentLength(0);
        response.finishResponse();
    }

    private static void member(StringBuilder json, String name, String value) {
        text(json, name);
        json.append(':');
        if (value == null) {
            json.append("null");
        } else {
            text(json, value);
        }
        json.append(',');
    }

    private static void end(StringBuilder json) {
        int last = json.length() - 1;
        if (json.charAt(last) == ',') {
            json.setLength(last);
        }
        json.append('}');
    }

    private static void text(StringBuilder json, String text) {
        json.append('"');
        for (char letter : text.toCharArray()) {
            if (letter < 0x20 || letter == '"' || letter == '\\' || letter >= 0x7f) {
                json.append(String.format("\\u%04x", (int) letter));
            } else {
                json.append(letter);
            }
        }
        json.append('"');
    }
}
