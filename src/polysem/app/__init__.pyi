from ._server import ExploreConfig as ExploreConfig
from ._server import access_of as access_of
from ._server import create_app as create_app
from ._server import listen as listen
from ._server import serve as serve
