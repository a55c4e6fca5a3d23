from django.http import JsonResponse
from django.urls import path
from probe import seen

urlpatterns = [path(where, lambda request: JsonResponse(seen(request.environ))) for where in ["", "page/", "a b/"]]
